"""From what a user calls a run, to the run: RUN is an id, the start of one, a name, `latest` or `best:STUDY[:ARM]`."""

from figleaf.config import TrackingConfig, home
from figleaf.study.best import PREFIX, find_best
from figleaf.tracking.find import FoundRun, find_run
from figleaf.tracking.store import open_store


def named_run(reference: str, tracking: TrackingConfig) -> FoundRun:
    """The run that `reference` names. Raises `FigleafError`, with candidates, when it names none or several."""
    if reference.startswith(PREFIX):
        return find_best(reference, tracking)
    return find_run(open_store(tracking.uri, home()), reference)
