"""The trials of a search, as its storage knows them: which comes next, what is told of it, which count."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.pruners import BasePruner, HyperbandPruner, MedianPruner, NopPruner
from optuna.samplers import BaseSampler, CmaEsSampler, GridSampler, RandomSampler, TPESampler
from optuna.storages import fail_stale_trials
from optuna.trial import FrozenTrial, Trial, TrialState

from figleaf.study.search.space import Space
from figleaf.study.search.spec import SearchSection
from figleaf.study.search.storage import Heartbeats, Storage, mark_driver, queue_again, superseded

DEFAULT_TRIALS = 20
# What is kept of a trial beside its settings and values.
RUN_ID, EPOCHS, ERROR, SAME_AS = "run_id", "epochs", "error", "same_as"
HARDWARE, SAMPLER = "hardware", "sampler"  # the machine it was trained on, and who proposed it


class Trials:
    """The trials of one search, shared with every other driver of it.

    At most `wanted` of them count: those that ended, are running or are queued, but not those that died with their
    driver and were queued again.
    """

    def __init__(self, space: Space, storage: Storage, name: str, *, wanted: int | None, epochs: int) -> None:
        section = space.section
        self.space, self.storage = space, storage
        self.metric, self.mode = section.metric_and_mode(space.study.select.key, space.study.select.mode)
        self.wanted = wanted or section.trials or (space.grid_size if section.sampler == "grid" else DEFAULT_TRIALS)
        if section.sampler == "grid":
            self.wanted = min(self.wanted, space.grid_size)
        with storage.alone():
            self.study = optuna.create_study(
                storage=storage.optuna,
                study_name=name,
                direction="maximize" if self.mode == "max" else "minimize",
                pruner=_pruner(section, epochs),
                load_if_exists=True,
            )
        self._heartbeats = Heartbeats(storage)

    def __enter__(self) -> "Trials":
        self._heartbeats.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._heartbeats.stop()

    def counted(self) -> list[FrozenTrial]:
        """The trials that count, by number."""
        trials = self.study.get_trials(deepcopy=False)
        again = superseded(trials)
        return [trial for trial in trials if trial.number not in again]

    def counts(self) -> Counter[TrialState]:
        """How many of them are in which state."""
        return Counter(trial.state for trial in self.counted())

    def next(self) -> Trial | None:
        """A trial to run, its values suggested; None when as many as are wanted have been given out."""
        with self.storage.alone():
            self._queue_the_dead()
            counts = self.counts()
            if counts.total() >= self.wanted and not counts[TrialState.WAITING]:
                return None
            # A sampler of its own for each trial: what is suggested is a function of the seed and of the trials before,
            # so that a search that goes on does not draw what it has drawn already.
            number = len(self.study.get_trials(deepcopy=False))
            self.study.sampler = _sampler(self.space, number)
            trial = self.study.ask(dict(self.space.distributions))
            mark_driver(trial)
            if SAMPLER not in trial.user_attrs:  # one queued again was proposed before
                trial.set_user_attr(SAMPLER, self.space.section.sampler)
            self._heartbeats.add(trial._trial_id)
        return trial

    def look_for_the_dead(self) -> None:
        """Queue again the trials whose driver has died."""
        with self.storage.alone():
            self._queue_the_dead()

    def twin(self, trial: Trial) -> FrozenTrial | None:
        """An earlier trial with the same settings that ended well, was given up, or still runs."""
        states = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.RUNNING)
        for other in self.counted():
            if other.number < trial.number and other.state in states and other.params == trial.params:
                return other
        return None

    def report(self, trial: Trial, epochs: int, value: float | None) -> bool | None:
        """Note what a trial found after so many epochs; whether to give it up, None when it is no longer ours."""
        try:
            if value is None or not math.isfinite(value):
                return False
            trial.report(value, epochs)
            return bool(trial.should_prune())
        except UpdateFinishedTrialError:
            self._heartbeats.running.discard(trial._trial_id)
            return None

    def tell(
        self, trial: Trial, state: TrialState, value: float | None = None, notes: Mapping[str, Any] | None = None
    ) -> bool:
        """Note how a trial ended, with `notes`; False when it is no longer ours."""
        self._heartbeats.running.discard(trial._trial_id)
        try:
            for key, note in (notes or {}).items():
                trial.set_user_attr(key, note)
            self.study.tell(trial, value, state)
        except (UpdateFinishedTrialError, ValueError):  # Optuna's words for a trial that somebody else has ended
            if trial.storage.get_trial(trial._trial_id).state is TrialState.RUNNING:
                raise
            return False
        return True

    def copy(self, trial: Trial, twin: FrozenTrial) -> bool:
        """End a trial as its twin ended, without training anything."""
        for epochs, earlier in sorted(twin.intermediate_values.items()):
            self.report(trial, epochs, earlier)
        notes = {key: twin.user_attrs[key] for key in (RUN_ID, EPOCHS) if key in twin.user_attrs}
        value = twin.value if twin.state is TrialState.COMPLETE else None
        return self.tell(trial, twin.state, value, {**notes, SAME_AS: twin.number})

    def hand_back(self, trials: Sequence[Trial]) -> None:
        """Queue trials that were stopped half-way; whoever takes them up goes on with them."""
        with self.storage.alone():
            for trial in trials:
                if self.tell(trial, TrialState.FAIL):
                    queue_again(self.study, self._frozen(trial))

    def retry_failed(self) -> int:
        """Queue every trial that failed once more; how many these are."""
        with self.storage.alone():
            failed = [trial for trial in self.counted() if trial.state is TrialState.FAIL]
            for trial in failed:
                queue_again(self.study, trial)
        return len(failed)

    def best(self) -> FrozenTrial | None:
        """The best of the trials that were trained to their end."""
        ended = [(t.value, t) for t in self.counted() if t.state is TrialState.COMPLETE and t.value is not None]
        sign = 1.0 if self.mode == "max" else -1.0
        return max(ended, key=lambda pair: (sign * pair[0], -pair[1].number), default=(0.0, None))[1]

    def _queue_the_dead(self) -> None:
        self._heartbeats.beat()  # this machine may have slept
        fail_stale_trials(self.study)

    def _frozen(self, trial: Trial) -> FrozenTrial:
        return next(t for t in self.study.get_trials() if t.number == trial.number)


class _Grid(GridSampler):
    """Optuna's grid, which at its end stops a loop that is not running here."""

    def after_trial(self, *ended: Any) -> None:
        """Nothing."""


def _sampler(space: Space, number: int) -> BaseSampler:
    section = space.section
    seed = int(np.random.SeedSequence([section.seed, number]).generate_state(1)[0])
    match section.sampler:
        case "random":
            return RandomSampler(seed)
        case "grid":  # its seed shuffles the combinations, so every driver has the same
            return _Grid(space.grid, section.seed)
        case "cmaes":
            return CmaEsSampler(n_startup_trials=section.startup, seed=seed, warn_independent_sampling=False)
        case _:
            return TPESampler(n_startup_trials=section.startup, seed=seed)


def _pruner(section: SearchSection, epochs: int) -> BasePruner:
    match section.pruner:
        case "median":
            return MedianPruner(n_startup_trials=section.startup, n_warmup_steps=section.warmup)
        case "hyperband":
            return HyperbandPruner(min_resource=min(section.warmup, epochs), max_resource=epochs)
        case _:
            return NopPruner()
