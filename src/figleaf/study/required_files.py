"""The files that trials read: said to be missing before the first trial starts, not by each trial in turn.

One rule for all paths of a study: a relative one starts from the folder the command is given in, as in `figleaf train`.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

from figleaf.config import TrainConfig
from figleaf.data.manifest_file import manifest_file
from figleaf.errors import FigleafError
from figleaf.study.plan import Trial
from figleaf.study.spec import FILE_NAME, Study
from figleaf.vgg.weights_file import absent_weights_file


def require_files(study: Study, trials: Sequence[Trial]) -> None:
    """Raises `FigleafError` that names key, path and arms when a file or folder of one of `trials` is not there."""
    arms: dict[tuple[str, str | None, str], list[str]] = {}
    for trial in trials:
        for fault in _faults(trial.config):
            of = arms.setdefault(fault, [])
            of += [trial.arm] * (trial.arm not in of)
    if arms:
        raise FigleafError("\n".join(_told(study, fault, of) for fault, of in arms.items()))


def _faults(config: TrainConfig) -> Iterator[tuple[str, str | None, str]]:
    """Key, path (None: none is given) and what is wrong with it."""
    data = config.data
    if data.source == "manifest":
        try:
            manifest_file(data.manifest)
        except FigleafError as error:
            yield "data.manifest", data.manifest, str(error)
        if data.root is not None and not Path(data.root).expanduser().is_dir():
            yield "data.root", data.root, "no such folder"
    if (path := absent_weights_file(config.weights)) is not None:
        yield "model.weights", path, "no such file"
    if (teacher := config.distill.teacher) is not None and not Path(teacher).expanduser().is_file():
        yield "distill.teacher", teacher, "no such file"


def _told(study: Study, fault: tuple[str, str | None, str], arms: Sequence[str]) -> str:
    key, path, reason = fault
    whose = "every arm" if len(arms) == len(study.arms) else f"arm{'s' * (len(arms) > 1)} {', '.join(arms)}"
    where = f"study {study.name}, {whose}: {key}={path or 'null'}: {reason}"
    if path is None or Path(path).expanduser().is_absolute():
        return where
    found, beside = Path(path).resolve(), study.folder.parent.parent
    hint = f"; it is there from {beside}" if (beside / path).exists() and not found.exists() else ""
    return (
        f"{where} (looked for at {found}). A relative path in a study starts from the folder the command is given in"
        f"{hint}: change to the right folder, or write an absolute path in {study.folder / FILE_NAME}"
    )
