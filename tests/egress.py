"""A guard for processes of a test: connections beyond this machine are noted and refused."""

import os
from pathlib import Path

_GUARD = """
import os, socket

def guarded(original):
    def call(self, address, *rest):
        if isinstance(address, tuple) and address[0] not in ("127.0.0.1", "::1", "localhost"):
            with open(os.environ["EGRESS_LOG"], "a") as log:
                log.write(f"{address}\\n")
            raise OSError("blocked by the test")
        return original(self, address, *rest)
    return call

socket.socket.connect = guarded(socket.socket.connect)
socket.socket.connect_ex = guarded(socket.socket.connect_ex)
lookup = socket.getaddrinfo

def resolve(host, *rest, **options):
    if host not in (None, "", "127.0.0.1", "::1", "localhost", socket.gethostname()):
        with open(os.environ["EGRESS_LOG"], "a") as log:
            log.write(f"lookup {host}\\n")
        raise OSError("blocked by the test")
    return lookup(host, *rest, **options)

socket.getaddrinfo = resolve
"""


def guarded(folder: Path, log: Path) -> dict[str, str]:
    """The environment of Python processes that write to `log` whom they wanted to talk to; `folder` is for the guard.

    Every Python that has its folder on PYTHONPATH loads it.
    """
    (folder / "sitecustomize.py").write_text(_GUARD)
    path = os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH")]))
    return {"PYTHONPATH": path, "EGRESS_LOG": str(log)}
