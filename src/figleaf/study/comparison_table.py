"""The comparisons of a study as a table: what a reviewer asks of each difference, in one row."""

import math
from collections.abc import Sequence

from figleaf.errors import FigleafError
from figleaf.evaluate.variance import variance_components
from figleaf.study.comparison import ALPHA, Comparisons, Effect
from figleaf.study.plan import Trial
from figleaf.study.render import csv_text
from figleaf.study.spec import Column, Study
from figleaf.study.table import ABSENT, Cell, Table, arm_stat, column_of, compared_key, title_of

_SYSTEMS_HEADER = ("Runs", "95 % over groups and seeds", "p", "p (Holm)")
_HEADER = (
    "95 % over seeds",
    "95 % over seeds and groups",
    "Cohen's d_z",
    "P(better)",
    "p",
    "p (Holm)",
    "Seeds for 80 % power",
)


def comparison_table(study: Study, found: Comparisons) -> Table:
    """One row a comparison: the difference with its intervals and tests; paired by seed, effect size and power, too."""
    column = column_of(study, found.key)
    of_systems = study.table.test == "groups"
    first = "Effect" if not found.against else f"Against {found.against}"
    header = ["P(greater)" if found.of_costs and name == "P(better)" else name for name in _HEADER]
    return Table(
        title=f"{title_of(study)}: differences in {column.label or column.key}",
        header=[first, f"Difference in {column.label or column.key}", *(_SYSTEMS_HEADER if of_systems else header)],
        rows=[_row(effect, column) for effect in found.effects],
        caption=_systems_caption(found) if of_systems else _caption(found),
        notes=[],
    )


def fit_sentence(study: Study, trials: Sequence[Trial]) -> str:
    """Whether the arm without regularisers fits its training split, without which an ablation shows nothing.

    Empty when the study asks for nothing.
    """
    if study.fit is None:
        return ""
    arm, key, least = study.fit.arm, study.fit.key, study.fit.at_least
    stat = arm_stat([trial for trial in trials if trial.arm == arm], key)
    if stat is None:
        return f"Whether {arm} fits its training split is not known: its runs have no {key}."
    if stat.mean >= least:
        return f"{arm} fits its training split: mean {key} {stat.mean:.4f}, at least {least:g} was asked."
    return (
        f"VOID as an ablation: {arm} does not fit its training split (mean {key} {stat.mean:.4f}, {least:g} was "
        "asked), so a regulariser had nothing to do."
    )


def components_sentence(study: Study, trials: Sequence[Trial]) -> str:
    """How much of the compared metric's spread lies between the arms; empty when the study does not ask.

    It asks with `table.components`, where arms are no settings to choose from but draws of something, such as splits.
    """
    drawn = study.table.components
    if drawn is None:
        return ""
    column = column_of(study, compared_key(study))
    stats = [arm_stat([trial for trial in trials if trial.arm == arm], column.key) for arm in study.arms]
    try:
        found = variance_components([[] if stat is None else stat.values for stat in stats])
    except FigleafError as error:
        return f"How much of the spread is the {drawn}'s cannot be said yet: {error}."
    none = f" (an estimate below 0: no luck of the {drawn} is seen)" if found.share < 0 else ""
    between, within = (format(sd * column.scale, column.format) for sd in (found.between, found.within))
    return (
        f"Of the variance of {column.label or column.key}, a share of {found.share:.2f} "
        f"[{found.low:.2f}, {found.high:.2f}] is the {drawn}'s{none} (sd {between}), the rest that of the seeds "
        f"within it (sd {within}); F test of no share p = {found.p_value:.3f}."
    )


def claim_sentence(study: Study, found: Comparisons | None) -> str:
    """What the bold of the study's table means."""
    if found is None:
        untested = study.table.baseline is None and not study.table.factorial
        why = "are not tested here" if untested else "could not be tested yet"
        return f"Differences between arms {why}, so nothing is set in bold."
    if not found.against:
        return "What differs is told by the table of effects; nothing is set in bold here."
    test = "bootstrap over groups of the test set" if study.table.test == "groups" else "signed-rank test over seeds"
    return f"Bold: differs from {found.against} by the {test} with Holm's correction at {ALPHA:g}" + (
        "." if found.supported() else "; no arm does."
    )


def comparisons_csv(study: Study, found: Comparisons) -> str:
    """The comparisons for programs: a line each, in the metric's own unit, ten digits."""
    header = ["effect", "key", "against", "n_pairs", "difference", "sd", "seeds_low", "seeds_high"]
    header += ["both_low", "both_high", "d_z", "rank_biserial", "prob_better", "p", "p_floor", "p_holm", "supported"]
    header += ["seeds_for_80_power", "data_note"]
    lines: list[list[object]] = [list(header)]
    for effect in found.effects:
        paired, systems = effect.paired, effect.systems
        if paired is None or systems is not None:
            lines.append(_systems_line(study, found, effect))
            continue
        numbers = [paired.difference, paired.sd, *paired.over_seeds, *(paired.over_seeds_and_groups or (None, None))]
        numbers += [paired.d_z, paired.rank_biserial, paired.prob_better, paired.p_value, paired.p_floor, effect.p_holm]
        digits = [None if number is None else f"{number:.10g}" for number in numbers]
        end = [str(effect.is_supported).lower(), effect.seeds_for_power, study.data_note]
        lines.append([effect.name, found.key, found.against, paired.n, *digits, *end])
    return csv_text(lines)


def _systems_line(study: Study, found: Comparisons, effect: Effect) -> list[object]:
    """A comparison of systems in the columns of `comparisons_csv`, empty where it has no such thing."""
    systems = effect.systems
    if systems is None:
        raise ValueError(f"{effect.name} is no comparison of systems")
    digits = {
        "difference": systems.difference,
        "both_low": systems.interval.low,
        "both_high": systems.interval.high,
        "p": systems.p_value,
        "p_floor": systems.p_floor,
        "p_holm": effect.p_holm,
    }
    names = ["difference", "sd", "seeds_low", "seeds_high", "both_low", "both_high", "d_z", "rank_biserial"]
    names += ["prob_better", "p", "p_floor", "p_holm"]
    numbers = [f"{digits[name]:.10g}" if name in digits else None for name in names]
    supported = str(effect.is_supported).lower()
    return [effect.name, found.key, found.against, None, *numbers, supported, None, study.data_note]


def _row(effect: Effect, column: Column) -> list[Cell]:
    paired, systems, bold = effect.paired, effect.systems, effect.is_supported

    def signed(value: float) -> str:
        return format(value * column.scale, "+" + column.format) if math.isfinite(value) else str(value)

    def span(bounds: tuple[float, float] | None) -> Cell:
        return Cell(ABSENT if bounds is None else f"[{signed(bounds[0])}, {signed(bounds[1])}]")

    if systems is not None:
        return [
            Cell(effect.name, is_bold=bold),
            Cell(signed(systems.difference), is_bold=bold),
            Cell(f"{systems.n_a} against {systems.n_b}"),
            span(systems.interval),
            Cell(f"{systems.p_value:.4f}"),
            Cell(f"{effect.p_holm:.3f}", is_bold=bold),
        ]
    if paired is None:
        raise ValueError(f"{effect.name} has no comparison")
    needed = effect.seeds_for_power
    return [
        Cell(effect.name, is_bold=bold),
        Cell(f"{signed(paired.difference)} ± {format(paired.sd * column.scale, column.format)}", is_bold=bold),
        span(paired.over_seeds),
        span(paired.over_seeds_and_groups),
        Cell(f"{paired.d_z:+.2f}"),
        Cell(f"{paired.prob_better:.2f}"),
        Cell(f"{paired.p_value:.4f}"),
        Cell(f"{effect.p_holm:.3f}", is_bold=bold),
        Cell(ABSENT if needed is None else f"{needed:,}"),
    ]


def _systems_caption(found: Comparisons) -> list[str]:
    floor = max(effect.systems.p_floor for effect in found.effects if effect.systems)
    sentences = [
        f"Each arm minus {found.against}, the mean over its runs.",
        f"Over groups and seeds: bootstrap of the groups of the test set ({found.n_samples} images in "
        f"{found.n_groups} groups{_left_out(found)}), the same for all arms, and of the seeds of an arm with several, "
        "not paired; an arm of one run is that one system, without the luck of its seed.",
        f"p: two-sided, by inverting that interval, never below {floor:.4f}; Holm's correction over "
        f"{len(found.effects)} comparison{'s' * (len(found.effects) > 1)}.",
        f"Bold: supported at {ALPHA:g} by the corrected test.",
    ]
    if not found.can_support:
        sentences.append(f"With {len(found.effects)} comparisons that floor supports nothing, whatever the runs show.")
    return sentences + [f"{arm} is not compared: {why}." for arm, why in found.left_out]


def _of_costs_or_quality(found: Comparisons) -> list[str]:
    if found.of_costs:
        return ["Over seeds: Student's t interval.", "P(greater): the share of pairs in which it was more."]
    return [
        "Over seeds: Student's t interval. Over seeds and groups: hierarchical bootstrap of seeds and of the groups of "
        f"the test set ({found.n_samples} images in {found.n_groups} groups{_left_out(found)}).",
        "P(better): the share of pairs that were better.",
    ]


def _left_out(found: Comparisons) -> str:
    return f", {found.n_left_out} more without a score in some run" if found.n_left_out else ""


def _caption(found: Comparisons) -> list[str]:
    paired = [effect.paired for effect in found.effects if effect.paired]
    pairs = " or ".join(map(str, sorted({one.n for one in paired})))
    floor = max(one.p_floor for one in paired)
    what = (
        "Effects: the mean over the cells with the second level of a factor minus that over those with the first; an "
        "interaction is the difference between such effects, by effect coding."
        if not found.against
        else f"Each arm minus {found.against}."
    )
    sentences = [
        what,
        f"Paired by seed, {pairs} pairs: mean difference ± its sample standard deviation.",
        *_of_costs_or_quality(found),
        f"p: exact two-sided signed-rank test, with so many pairs never below {floor:.4f}; Holm's correction over "
        f"{len(found.effects)} comparison{'s' * (len(found.effects) > 1)}.",
        f"Bold: supported at {ALPHA:g} by the corrected test.",
        "Seeds for 80 % power: that a difference as large as the one seen would need, by the paired t test at Holm's "
        "first step.",
    ]
    if not found.can_support:
        sentences.append(
            f"With {found.n_seeds} pairs and {len(found.effects)} comparisons nothing can be supported, whatever the "
            f"runs show: it takes {found.seeds_to_support} seeds."
        )
    sentences += [f"{arm} is not compared: {why}." for arm, why in found.left_out]
    return sentences
