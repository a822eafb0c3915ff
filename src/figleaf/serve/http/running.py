"""The socket and the process of the server."""

import ctypes
import logging
import socket
from ipaddress import ip_address

import uvicorn
from starlette.types import ASGIApp

from figleaf.errors import FigleafError
from figleaf.serve.http.connection import BoundedConnection

_BACKLOG = 512
_M_MMAP_THRESHOLD, _M_ARENA_MAX = -3, -8  # of glibc's malloc.h


def listening_socket(host: str, port: int, *, is_protected: bool) -> socket.socket:
    """A socket that listens at the address; port 0 takes any that is free.

    Raises `FigleafError` where it cannot be had, and for an address that other machines reach unless the server
    `is_protected` by a token.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except (OSError, UnicodeError, OverflowError) as error:
        raise FigleafError(f"--host {host}: no address of this machine ({error})") from error
    if not (is_protected or ip_address(str(address[0]).partition("%")[0]).is_loopback):
        raise FigleafError(
            f"--host {host}: other machines would reach it, and nobody is asked for a token; give --token-file FILE or "
            "FIGLEAF_TOKEN, or stay with 127.0.0.1"
        )
    found = socket.socket(family, kind, protocol)
    try:
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found.bind(address)
        found.listen(_BACKLOG)
    except OSError as error:
        found.close()
        raise FigleafError(f"--host {host} --port {port}: {error.strerror}; --port 0 takes one that is free") from error
    return found


def url_of(listening: socket.socket) -> str:
    """Where it is reached."""
    host, port = listening.getsockname()[:2]
    return f"http://[{host}]:{port}" if listening.family == socket.AF_INET6 else f"http://{host}:{port}"


def server_of(app: ASGIApp, graceful_s: int) -> uvicorn.Server:
    """The server; its `run(sockets=[...])` serves until SIGTERM or Ctrl-C, then answers what has begun.

    That takes at most `graceful_s`. The signal is raised anew at the end, for the handlers that were there before.
    """
    _give_memory_back()
    logging.getLogger("python_multipart").setLevel(logging.CRITICAL)  # a broken form is told to who sent it
    config = uvicorn.Config(
        app,
        http=BoundedConnection,
        ws="none",
        lifespan="on",
        log_config=None,
        log_level="error",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=graceful_s,
        backlog=_BACKLOG,
    )
    return uvicorn.Server(config)


def _give_memory_back() -> None:
    """Let blocks of a megabyte go back to the system when they are freed.

    glibc starts like that, but takes ever larger blocks from its own heaps once such blocks have been freed, and those
    of bodies and pictures, which come and go in threads, leave the heaps full of holes.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:  # other C libraries have none
        mallopt(_M_MMAP_THRESHOLD, 1 << 20)
        mallopt(_M_ARENA_MAX, 2)
