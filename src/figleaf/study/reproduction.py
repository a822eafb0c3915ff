"""A study trained again: what has to be trained for it, and how far its runs are from those on record."""

import math
from collections.abc import Mapping, Sequence

from figleaf.study.plan import Trial, compose_trials
from figleaf.study.records import Record
from figleaf.study.spec import Study, find_study

_CLOCK = "time/"  # alone differs between identical runs


def measured_trials(study: Study, trials: Sequence[Trial], overrides: Sequence[str]) -> list[tuple[Study, list[Trial]]]:
    """The trials of other studies whose runs `trials` measure, by study; none when these are trained themselves."""
    wanted: dict[str, set[tuple[str, int]]] = {}
    for trial in trials:
        of = study.source_of(trial.arm)
        if of is not None:
            wanted.setdefault(of.study, set()).add((of.arm, trial.seed))
    sources = [find_study(name, study.folder.parent) for name in wanted]
    return [
        (source, [t for t in compose_trials(source, overrides) if (t.arm, t.seed) in wanted[source.name]])
        for source in sources
    ]


def drift_lines(study: Study, trials: Sequence[Trial], before: Mapping[str, Record]) -> list[str]:
    """One line an arm: the greatest difference between a trial and its record in the table's metrics.

    Identical is to the last bit, as the same machine and versions give it.
    """
    keys = [column.key for column in study.table.columns if not column.key.startswith(_CLOCK)]
    lines = []
    for arm in study.arms:
        pairs = [(t.run, before[t.name], t) for t in trials if t.arm == arm and t.run is not None and t.name in before]
        if not pairs:
            continue
        differences = [
            (abs(run.metrics[key] - record.metrics[key]), key, trial.name)
            for run, record, trial in pairs
            for key in keys
            if key in run.metrics and key in record.metrics and math.isfinite(record.metrics[key])
        ]
        most, key, name = max(differences, default=(0.0, "", ""))
        seeds = f"{len(pairs)} seed{'s' * (len(pairs) > 1)}"
        how = f"differ from the records by at most {most:.3g} ({key} of {name})" if most else "identical to the records"
        lines.append(f"drift: {arm}: {seeds} {how}")
    return lines
