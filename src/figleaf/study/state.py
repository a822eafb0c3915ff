"""A study on this machine: its tracker, and what records, tracker, run folders and data say of its trials."""

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import cache

from figleaf.config import ModelConfig, TrainConfig, home, to_dict
from figleaf.errors import FigleafError
from figleaf.study.cluster.jobs import Jobs
from figleaf.study.cluster.ledger import Ledger
from figleaf.study.plan import Knowledge, Trial
from figleaf.study.records import load_records, records_of_other_studies
from figleaf.study.spec import Study
from figleaf.tracking.find import runs
from figleaf.tracking.provenance import git_state
from figleaf.tracking.record import is_locked
from figleaf.tracking.store import Store, open_store
from figleaf.tracking.sync import sync_all
from figleaf.train.inputs import load_inputs, reads_masks
from figleaf.vgg.weights_file import require_weights_file


def tracker_of(trials: Sequence[Trial]) -> Store:
    """The one tracker of all trials. Raises `FigleafError` when they name several."""
    uris = {trial.config.tracking.uri for trial in trials}
    if len(uris) > 1:
        raise FigleafError(f"tracking.uri: the arms of a study share one tracker, these name {sorted(map(str, uris))}")
    return open_store(uris.pop(), home())


def gather(store: Store, study: Study) -> Knowledge:
    """What records, tracker and run folders say, after what waits for delivery has been delivered."""
    jobs = jobs_of(study.name)  # first: what a job has done that is gone by now, the tracker knows
    for row in sync_all(store, home()):
        if row["error"]:
            print(f"not delivered: {row['error']}", file=sys.stderr, flush=True)
    commit = git_state()["commit"]
    return Knowledge(
        runs(store),
        home() / "runs",
        is_locked,
        records=load_records(study.results),
        others=cache(lambda: records_of_other_studies(study.results)),
        commit=None if commit == "unknown" else commit,
        jobs=jobs,
    )


def jobs_of(study: str) -> Mapping[str, str]:
    """Where the jobs of a study are that wait or work on a cluster; see `Knowledge.jobs`."""
    return Jobs(Ledger.of(study)).notes()


def data_hashes() -> Callable[[TrainConfig], str]:
    """The hash of the data that a configuration reads today. Decodes what is not in the cache yet, once for all."""
    hashes: dict[str, str] = {}

    def data_hash(config: TrainConfig) -> str:
        if isinstance(config.model, ModelConfig) and config.model.architecture == "weights":
            require_weights_file(config.weights)  # without it nobody knows at which size pictures are read
        size, larger, masks = config.model.input_size, config.augment.larger, reads_masks(config.model)
        key = json.dumps([to_dict(config.data), size, larger, masks], sort_keys=True)
        if key not in hashes:
            hashes[key] = load_inputs(config.data, size, larger, home(), masks=masks).data_hash
        return hashes[key]

    return data_hash
