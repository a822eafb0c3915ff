"""Which trials a study has, and what is known of each: done, running, interrupted, failed, stale or missing."""

import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path

from figleaf.config import TrainConfig, compose, fingerprint
from figleaf.errors import FigleafError
from figleaf.study.cluster.ledger import key_of
from figleaf.study.evaluated import shared_overrides, with_method
from figleaf.study.records import (
    ARM_TAG,
    COMMIT_TAG,
    DATA_HASH_TAG,
    FINGERPRINT_TAG,
    SEED_TAG,
    STUDY_TAG,
    FinishedRun,
    Record,
)
from figleaf.study.spec import Study
from figleaf.tracking.find import FoundRun
from figleaf.tracking.heartbeat import TAG as HEARTBEAT_TAG
from figleaf.tracking.heartbeat import Beat

ERROR_TAG = "figleaf.error"
_SILENT_S = 120.0  # a run on another machine that was silent for so long is taken for dead


class Status(StrEnum):
    """What is known of a trial. All but done and running are started by `figleaf study run`."""

    DONE = "done"
    RUNNING = "running"
    INTERRUPTED = "interrupted"  # goes on from its last checkpoint
    FAILED = "failed"
    STALE = "stale"  # finished, but the configuration, the data or the code has changed since
    MISSING = "missing"


class Stale(StrEnum):
    """What to do with finished runs of another commit; a changed configuration or data always means a new run."""

    KEEP = "keep"
    RERUN = "rerun"
    REFUSE = "refuse"


@dataclass(frozen=True)
class Trial:
    """One arm with one seed. `run` is the finished run that counts, and is there exactly when the status is done."""

    arm: str
    seed: int
    config: TrainConfig
    status: Status = Status.MISSING
    run: FinishedRun | None = None
    note: str = ""

    @property
    def name(self) -> str:
        """Arm and seed, as in file names."""
        return f"{self.arm}-{self.seed}"

    @property
    def is_due(self) -> bool:
        """Whether there is something to run."""
        return self.status not in (Status.DONE, Status.RUNNING)


def compose_trials(study: Study, overrides: Sequence[str] = ()) -> list[Trial]:
    """Every arm with each of its seeds, configured; `overrides` come last. What the tracker knows is not looked at.

    Raises `FigleafError` that names the arm when an override is wrong or two trials are the same.
    """
    trials: list[Trial] = []
    seen: dict[str, str] = {}
    for name, arm in study.arms.items():
        try:
            shared = shared_overrides(study, name)
            full = [*shared, *arm.overrides, *overrides, f"study={study.name}", f"arm={name}"]
            configs = [with_method(config, arm.evaluate) for config in _of_each_seed(full, study.seeds_of(name))]
        except FigleafError as error:
            raise FigleafError(f"study {study.name}, arm {name}: {error}") from error
        for config in configs:
            trial = Trial(name, config.seed, config)
            # Two manifests are two data sets, though where one lies is not part of a fingerprint.
            identity = fingerprint(trial.config, f"{trial.config.data.manifest} {trial.config.data.root}")
            twin = seen.setdefault(identity, trial.name)
            if twin != trial.name:
                raise FigleafError(f"study {study.name}: {twin} and {trial.name} have the same configuration")
            trials.append(trial)
    return trials


def _of_each_seed(overrides: Sequence[str], seeds: Sequence[int]) -> list[TrainConfig]:
    """The configuration with each seed, of which an override may speak: `model.weights=half-${seed}.safetensors`."""
    if any("${seed}" in text for text in overrides):
        return [compose("train", [*overrides, f"seed={seed}"]) for seed in seeds]
    config = compose("train", overrides)  # slow, and the same for all
    return [replace(config, seed=seed) for seed in seeds]


@dataclass(frozen=True)
class Knowledge:
    """What the status of a trial is read from.

    `runs`, newest first, are the tracker's; `records`, by the trials' names, stand in the study's folder and count
    before them; `others` gives those of other studies, which may have run the same. `data_hash` gives the hash of the
    data a configuration would read today; without it (None) a run's own data is taken to be unchanged. `is_locked` says
    whether a process works in a run folder; `runs_folder` is where those folders are made. `commit` is today's, None
    outside of a checkout. `jobs` says of trials whose jobs wait or work on a cluster where those are, by
    `figleaf.study.cluster.ledger.key_of`.
    """

    runs: Sequence[FoundRun]
    runs_folder: Path
    is_locked: Callable[[Path], bool]
    records: Mapping[str, Record] = field(default_factory=dict)
    others: Callable[[], Sequence[Record]] = tuple
    data_hash: Callable[[TrainConfig], str] | None = None
    commit: str | None = None
    stale: Stale = Stale.KEEP
    jobs: Mapping[str, str] = field(default_factory=dict)

    def job(self, trial: Trial) -> str | None:
        """What to say of the trial's job; None when it has none that waits or works."""
        return self.jobs.get(key_of(trial.name, trial.config)) if self.jobs else None

    def folder(self, config: TrainConfig) -> Path | None:
        """Where a run of `config` on today's data keeps its files; None when the data is not known or unreadable."""
        try:
            return (
                None if self.data_hash is None else self.runs_folder / fingerprint(config, self.data_hash(config))[:12]
            )
        except FigleafError:
            return None

    def tracked(self, trial: Trial) -> FoundRun | None:
        """The tracker's run of a finished trial: itself, or one of the same configuration and data; None of none."""
        if trial.run is None or isinstance(trial.run, FoundRun):
            return trial.run
        finished = [run for run in self.runs if run.status == "FINISHED"]
        same = [run for run in finished if run.run_id == trial.run.run_id]
        same += [run for run in finished if run.tags.get(FINGERPRINT_TAG) == trial.run.tags[FINGERPRINT_TAG]]
        return same[0] if same else None


def plan(trials: Sequence[Trial], known: Knowledge) -> list[Trial]:
    """The trials with their status. Raises `FigleafError` for runs of another commit when those are refused."""
    planned = [_planned(trial, known) for trial in trials]
    if known.stale is Stale.REFUSE:
        old = [trial for trial in planned if trial.run is not None and _is_of_other_commit(trial.run, known)]
        if old:
            raise FigleafError(
                f"stale=refuse: {len(old)} finished runs are of another commit than {_short(known.commit)}: "
                f"{', '.join(trial.name for trial in old)}; pass stale=keep to use them or stale=rerun"
            )
    return planned


def _planned(trial: Trial, known: Knowledge) -> Trial:
    data_hash, problem = None, ""
    try:
        data_hash = None if known.data_hash is None else known.data_hash(trial.config)
    except FigleafError as error:  # its own trial will say so, too; the others go on
        problem = str(error)
    record = known.records.get(trial.name)
    finished: list[FinishedRun] = [record] if record is not None and record.is_of(trial.config, data_hash) else []
    if problem and not (finished or (finished := _recorded_elsewhere(trial, known))):
        return _with(trial, Status.MISSING, note=problem)
    own = _fingerprints(trial.config, known)
    today = own if data_hash is None else {fingerprint(trial.config, data_hash)}
    matching = [run for run in known.runs if run.tags.get(FINGERPRINT_TAG) in today]
    finished += [run for run in matching if run.status == "FINISHED"]
    finished = finished or _recorded_elsewhere(trial, known, data_hash)
    if known.stale is Stale.RERUN:
        finished.sort(key=lambda run: _is_of_other_commit(run, known))
    done = _finished(trial, finished[0], known) if finished else None
    job = known.job(trial)
    if done is not None and (done.status is Status.DONE or job is None):
        return done
    if job is not None:
        return _with(trial, Status.RUNNING, note=job)
    folders = [known.folder(trial.config), *(run.folder for run in matching)]
    if any(folder is not None and known.is_locked(folder) for folder in folders) or any(
        map(_is_alive_elsewhere, matching)
    ):
        return _with(trial, Status.RUNNING, note="in another process")
    if matching:
        status = Status.FAILED if matching[0].status == "FAILED" else Status.INTERRUPTED
        return _with(trial, status, note=_error(matching[0]) if status is Status.FAILED else "")
    outdated: list[FinishedRun] = [run for run in known.runs if run.status == "FINISHED" and _is_of_trial(run, trial)]
    outdated += [] if record is None else [record]
    if outdated:
        what = "the data" if outdated[0].tags.get(FINGERPRINT_TAG) in own else "the configuration"
        return _with(trial, Status.STALE, note=f"{what} changed since run {outdated[0].run_id[:8]}")
    return _with(trial, Status.MISSING)


def _recorded_elsewhere(trial: Trial, known: Knowledge, data_hash: str | None = None) -> list[FinishedRun]:
    """A record of another study that ran the same, if there is one."""
    # By seed first: a fingerprint takes a tenth of a millisecond, and there may be hundreds of records.
    same_seed = (record for record in known.others() if record.tags.get(SEED_TAG) == str(trial.seed))
    found = next((record for record in same_seed if record.is_of(trial.config, data_hash)), None)
    return [] if found is None else [found]


def _finished(trial: Trial, run: FinishedRun, known: Knowledge) -> Trial:
    if not _is_of_other_commit(run, known):
        return _with(trial, Status.DONE, run)
    note = f"at commit {_short(run.tags[COMMIT_TAG])}, now {_short(known.commit)}"
    if known.stale is Stale.RERUN:
        return _with(trial, Status.STALE, note=note)
    return _with(trial, Status.DONE, run, note)


def _with(trial: Trial, status: Status, run: FinishedRun | None = None, note: str = "") -> Trial:
    return replace(trial, status=status, run=run, note=note)


def _fingerprints(config: TrainConfig, known: Knowledge) -> set[str]:
    """The configuration's fingerprint with each of the data that runs have read from the place it names.

    A fingerprint does not hold where the manifest lies, so runs of other manifests must not lend their data's hash.
    """
    place = {f"data.{key}": getattr(config.data, key) for key in ("source", "manifest", "root")}
    hashes = {
        run.tags.get(DATA_HASH_TAG, "")
        for run in known.runs
        if all(run.params.get(key, text) == text for key, value in place.items() for text in [value or "null"])
    }
    return {fingerprint(config, data_hash) for data_hash in hashes}


def _is_of_trial(run: FoundRun, trial: Trial) -> bool:
    tags = (run.tags.get(STUDY_TAG), run.tags.get(ARM_TAG), run.tags.get(SEED_TAG))
    return tags == (trial.config.study, trial.arm, str(trial.seed))


def _is_of_other_commit(run: FinishedRun, known: Knowledge) -> bool:
    commit = run.tags.get(COMMIT_TAG)
    return known.commit is not None and commit is not None and commit != known.commit


def _is_alive_elsewhere(run: FoundRun) -> bool:
    """A run on this machine holds a lock that can be seen; of another machine there are only signs of life."""
    if run.status != "RUNNING" or HEARTBEAT_TAG not in run.tags:
        return False
    beat = Beat.parse(run.tags[HEARTBEAT_TAG])
    return beat.host != socket.gethostname() and not beat.is_dead(_SILENT_S)


def _error(run: FoundRun) -> str:
    return run.tags.get(ERROR_TAG, "").removeprefix("FigleafError: ")


def _short(commit: str | None) -> str:
    return (commit or "unknown")[:10]
