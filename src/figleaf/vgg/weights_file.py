"""The file that `model.weights` names, before anything is read from it: is it there?

Nothing heavy is imported here, so that a command can refuse it before it loads what would train on it.
"""

from pathlib import Path

from figleaf.errors import FigleafError

SUFFIXES = (".safetensors", ".pth", ".pt", ".ckpt", ".npz", ".h5", ".hdf5", ".keras")
TEACHER_SUFFIX = ".safetensors"
_NO_FILE = ("none", "torchvision")  # what `model.weights` may say, or begin with, that is no path


def absent_weights_file(weights: str) -> str | None:
    """The path that `weights` names where no file is; None when it is there, and when `weights` names none."""
    kind, _, path = weights.rpartition(":")
    if kind in _NO_FILE or path in _NO_FILE or Path(path).expanduser().is_file():
        return None
    return path


def require_weights_file(weights: str) -> None:
    """Raises `FigleafError` when `weights`, the value of `model.weights`, names a file that is not there."""
    path = absent_weights_file(weights)
    if path is not None:
        raise FigleafError(
            f"model.weights={weights}: no such file (looked for at {Path(path).expanduser().absolute()}); expected "
            f"none, torchvision:NAME or a path ending in {', '.join(SUFFIXES)}"
        )


def require_teacher_file(teacher: str | None) -> None:
    """Raises `FigleafError` when `teacher`, the value of `distill.teacher`, names no file of weights of ours."""
    if teacher is None:
        return
    path = Path(teacher).expanduser()
    if path.suffix != TEACHER_SUFFIX or not path.is_file():
        reason = "no such file" if path.suffix == TEACHER_SUFFIX else f"not a {TEACHER_SUFFIX} file"
        raise FigleafError(
            f"distill.teacher={teacher}: {reason} (looked for at {path.absolute()}); "
            "`figleaf export run=RUN format=[safetensors]` writes one of a trained run"
        )
