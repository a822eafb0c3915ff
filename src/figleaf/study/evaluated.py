"""Arms that train nothing: evaluation methods, each measured on the runs of a trained arm; often all of a study's.

`runs_of: {study: NAME, arm: ARM}` names those runs, and each arm its method, such as
`{evaluate: {method: dense, scales: [96], flip: true}}`. A trial is a run that measures the weights of the trained run
with its seed, so that arms are paired by network, and records, tables and tests are those of any study. An arm may name
other runs than the study does, with a `runs_of` of its own, also in a study whose other arms train.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from figleaf.config import MethodConfig, TrainConfig
from figleaf.errors import FigleafError
from figleaf.study.records import BEST_TAG, FOLDER
from figleaf.study.spec import FILE_NAME, RunsOf, Study, find_study

if TYPE_CHECKING:  # a plan is made of what this module gives
    from figleaf.study.plan import Knowledge, Trial


def shared_overrides(study: Study, arm: str) -> tuple[str, ...]:
    """What the overrides of `arm` come after: the study's base, or the overrides of the runs that it evaluates.

    Raises `FigleafError` when the arm mixes training and evaluation, and when there is no such arm or seed.
    """
    where, of = study.folder / FILE_NAME, study.source_of(arm)
    if of is None:
        if study.arms[arm].evaluate is not None:
            raise FigleafError(f"{where}: arms.{arm}.evaluate: say whose runs with runs_of: {{study: NAME, arm: ARM}}")
        return study.base
    trains = ["base"] * bool(study.base and study.evaluates) + [f"arms.{arm}"] * (study.arms[arm].evaluate is None)
    trains += [f"arms.{arm}.overrides"] * bool(study.arms[arm].overrides)
    if trains:
        what = "a study" if study.evaluates else "an arm"
        raise FigleafError(
            f"{where}: {trains[0]}: {what} with runs_of trains nothing: each arm is evaluate: {{method: NAME, ...}}, "
            f"and everything else comes from study {of.study}"
        )
    source = find_study(of.study, study.folder.parent)
    if source.evaluates:
        raise FigleafError(f"{where}: runs_of.study={of.study}: it trains nothing itself; name the study that does")
    if of.arm not in source.arms:
        raise FigleafError(f"{where}: runs_of.arm={of.arm}: study {of.study} has {', '.join(source.arms)}")
    if source.source_of(of.arm) is not None:
        raise FigleafError(f"{where}: runs_of.arm={of.arm}: study {of.study} does not train it, but measures others")
    trained = source.seeds_of(of.arm)
    if lacking := sorted(set(study.seeds_of(arm)) - set(trained)):
        raise FigleafError(
            f"{where}: seeds={list(study.seeds_of(arm))}: arm {of.arm} of study {of.study} is trained with "
            f"{', '.join(map(str, trained))}, not with {', '.join(map(str, lacking))}"
        )
    return (*source.base, *source.arms[of.arm].overrides)


def with_method(config: TrainConfig, method: MethodConfig | None) -> TrainConfig:
    """`config` with its evaluation method, if any. Raises `FigleafError` when that does not suit the network."""
    if method is None:
        return config
    # Slow to import, and most studies have no use for it.
    from figleaf.train.evaluation import require_method

    require_method(method, config)
    return replace(config, evaluation=method)


def require_trained_runs(study: Study, due: "Sequence[Trial]", known: "Knowledge") -> None:
    """Raises `FigleafError` that names the command to give when a run that is to be measured is not in the tracker."""
    if known.data_hash is None:
        return
    from figleaf.train.evaluation import trained_run

    lacking: dict[RunsOf, set[int]] = {}
    for trial in due:
        of = study.source_of(trial.arm)
        if of is not None and trained_run(trial.config, known.data_hash(trial.config), known.runs) is None:
            lacking.setdefault(of, set()).add(trial.seed)
    if lacking:
        raise FigleafError("\n".join(_told(study, of, sorted(seeds)) for of, seeds in lacking.items()))


def require_same_weights(study: Study, trials: "Sequence[Trial]") -> None:
    """Raises `FigleafError` when arms measure the same run by name and seed, but not the same weights.

    Another processor trains other weights from the same seed: records from here and there are no pairs.
    """
    measured: dict[tuple[RunsOf, int], dict[str, list[str]]] = {}
    for trial in trials:
        of = study.source_of(trial.arm)
        if of is not None and trial.run is not None and (weights := trial.run.tags.get(BEST_TAG)):
            measured.setdefault((of, trial.seed), {}).setdefault(weights, []).append(trial.name)
    for (of, seed), by_weights in measured.items():
        if len(by_weights) > 1:
            kinds = "; ".join(f"{', '.join(names)} of {weights[:10]}" for weights, names in by_weights.items())
            raise FigleafError(
                f"study {study.name}: its arms measure different weights of {of.study}/{of.arm}-{seed}, so they are no "
                f"pairs: {kinds}. Measure them all on those of this tracker: "
                f"`figleaf study run {study.name} --records ignore`"
            )


def _told(study: Study, of: RunsOf, seeds: Sequence[int]) -> str:
    source = find_study(of.study, study.folder.parent)
    has_records = any((source.results / FOLDER / f"{of.arm}-{seed}.json").is_file() for seed in seeds)
    return (
        f"study {study.name} evaluates runs of study {of.study} that are not in this tracker: arm {of.arm}, "
        f"seed{'s' * (len(seeds) > 1)} {', '.join(map(str, seeds))}"
        + (f" ({source.results} holds records, but no weights)" if has_records else "")
        + f"; `figleaf study run {of.study} --arm {of.arm}{' --records ignore' * has_records}` trains them"
    )
