"""Turns: of commands that begin the same run at once, the first to begin is the first at its run folder.

The folder's name holds the hash of the data, so it is known only after seconds of imports and perhaps minutes of
decoding. A command that began later finds all of that done, and would overtake.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from filelock import FileLock, Timeout

from figleaf.config import ModelConfig, TrainConfig, fingerprint

_SOON_S = 2.0


@contextmanager
def turn(config: TrainConfig, runs: Path, say: Callable[[str], None]) -> Iterator[Callable[[], None]]:
    """Wait while another command is on its way to the folder of the same run; `say` tells when that takes long.

    What it gives ends the turn and is to be called once the run folder is taken. Only the order depends on it: the
    folder itself belongs to one process. So nothing happens where `runs` cannot be written.
    """
    model = config.model
    if isinstance(model, ModelConfig):
        model = replace(model, weights="none")  # a large file would have to be hashed
    weightless = replace(config, model=model)
    place = runs / ".starting" / fingerprint(weightless, f"{config.data.manifest} {config.data.root}")[:12]
    lock = FileLock(place)

    def end() -> None:
        if lock.is_locked:
            place.unlink(missing_ok=True)
            lock.release()

    with suppress(OSError):
        place.parent.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(timeout=_SOON_S)
        except Timeout:
            say("another process is starting this run; waiting until it has its folder")
            lock.acquire()
    try:
        yield end
    finally:
        end()
