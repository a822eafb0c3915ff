"""Where a run comes from: the code's commit and changes, the installed packages, the machine."""

import os
import platform
import subprocess
import sys
from importlib.metadata import distributions
from pathlib import Path
from typing import TypedDict

import psutil

_LONGEST_DIFF = 2**20
_GIT_TIMEOUT_S = 20.0
_PLAIN_DIFF = ("--no-ext-diff", "--no-textconv", "--no-color")  # whatever the user's configuration says
# What studies write into the checkout as their trials finish: it is no part of the code that the next trial runs.
_NOT_GENERATED = (
    *("--", ".", ":(top,exclude,glob)experiments/*/results/**"),
    ":(top,exclude,glob)experiments/*/README.md",
)
# What a new file must be to be copied into the tracker: a stray one may be private, or pictures.
_CODE_FOLDERS, _CODE_SUFFIXES = ("src/", "conf/"), (".py", ".yaml")


class GitState(TypedDict):
    """`commit` (hex, or "unknown" outside a checkout), whether the code differs from it, and how: patch and list."""

    commit: str
    dirty: bool
    diff: str


def git_state(folder: Path | None = None) -> GitState:
    """Give the state of the git checkout around `folder` (default: the one this code runs from).

    `diff` is a patch against the commit, new code and presets included, followed by the names of all other new files
    git does not ignore, as comments; at most a megabyte of it. The results of studies do not count. Without git or a
    checkout: commit "unknown", nothing else.
    """
    folder = folder or Path(__file__).parent
    try:
        commit = _git(folder, "rev-parse", "HEAD").strip()
        top = Path(_git(folder, "rev-parse", "--show-toplevel").rstrip("\n"))
        diff = _git(top, "diff", "HEAD", *_PLAIN_DIFF, *_NOT_GENERATED)
        new_files = _git(top, "ls-files", "--others", "--exclude-standard", "-z", *_NOT_GENERATED).split("\0")[:-1]
        new_code = [name for name in new_files if name.startswith(_CODE_FOLDERS) and name.endswith(_CODE_SUFFIXES)]
        diff += "".join(_git(top, "diff", "--no-index", *_PLAIN_DIFF, "--", os.devnull, name) for name in new_code)
    except (OSError, subprocess.SubprocessError):
        return {"commit": "unknown", "dirty": False, "diff": ""}
    others = sorted(set(new_files) - set(new_code))
    text = diff + "".join(f"# new file, not in the patch: {name}\n" for name in others)
    if len(text) > _LONGEST_DIFF:
        text = text[:_LONGEST_DIFF] + f"\n# cut: {len(text)} characters in all\n"
    return {"commit": commit, "dirty": bool(diff or new_files), "diff": text}


def environment() -> str:
    """List the Python version and every installed distribution, `name==version` a line, sorted."""
    versions = {f"{found.name}=={found.version}" for found in distributions()}
    header = f"# Python {platform.python_version()} on {platform.platform()}"
    return "\n".join([header, *sorted(versions, key=str.lower)]) + "\n"


def hardware() -> dict[str, object]:
    """Give the processor's name, its cores (and those this process may use), memory in GiB, and what torch sees.

    torch is asked only when something has imported it already; `gpus` lists names, empty without CUDA.
    """
    found: dict[str, object] = {
        "cpu": _cpu_name(),
        "cores": os.cpu_count(),
        "usable_cores": len(psutil.Process().cpu_affinity()) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
    }
    torch = sys.modules.get("torch")
    if torch is not None:
        found["torch_threads"] = torch.get_num_threads()
        found["gpus"] = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    return found


def _git(folder: Path, *arguments: str) -> str:
    """Run git without its optional locks: a trial must not get in the way of a commit being made."""
    finished = subprocess.run(
        ["git", "-c", "core.quotePath=false", *arguments],
        cwd=folder,
        env={**os.environ, "GIT_OPTIONAL_LOCKS": "0", "LC_ALL": "C"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
        timeout=_GIT_TIMEOUT_S,
    )
    if finished.returncode > ("--no-index" in arguments):  # which says 1 for a difference
        raise subprocess.SubprocessError(finished.stderr.decode(errors="replace"))
    return finished.stdout.decode(errors="replace")


def _cpu_name() -> str:
    """Give the processor's marketing name; only Linux and macOS tell, elsewhere the architecture has to do."""
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
