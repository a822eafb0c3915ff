"""From trials to a paper's table: one row an arm, mean ± sd over seeds, and what qualifies each number."""

import math
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from figleaf.evaluate.metrics import natural_range
from figleaf.evaluate.statistics import seeds_interval
from figleaf.study.plan import Trial
from figleaf.study.records import FinishedRun
from figleaf.study.selection import selected_arm
from figleaf.study.spec import Column, Selection, Study

LEVEL = 0.95
ABSENT = "-"
CHOSEN = "†"
_INFINITE = "infinite in one run or more: no spread"
LETTERS = "abcdefghijklmnoprstuvwxyz"  # of the notes; those with a superscript in Unicode, so no q


@dataclass(frozen=True)
class Stat:
    """A metric over an arm's runs, in the table's units: mean, sample standard deviation, and 95 % intervals.

    `over_seeds` is Student's t of three or more runs. `over_groups` spans the bootstrap intervals of the runs, each
    over the groups of its test set: it shows the uncertainty of the test set, not that of training. None: undefined.
    """

    values: tuple[float, ...]
    mean: float
    sd: float | None
    over_seeds: tuple[float, float] | None
    over_groups: tuple[float, float] | None


@dataclass(frozen=True)
class ArmRow:
    """An arm's trials, boiled down: `stats` by metric key, holding what at least one finished run defines."""

    arm: str
    done: int
    planned: int
    is_selected: bool
    absent: str  # which trials are not in the numbers, and why; empty when all are
    stats: dict[str, Stat]


@dataclass(frozen=True)
class Cell:
    """What stands in a cell, and the marks (letters or a dagger) of the notes that qualify it.

    Bold says that a corrected test supports it, and nothing else.
    """

    text: str
    marks: tuple[str, ...] = ()
    is_bold: bool = False


@dataclass(frozen=True)
class Table:
    """A table ready to be drawn in any format: plain text, no markup."""

    title: str
    header: list[str]
    rows: list[list[Cell]]
    caption: list[str]  # sentences
    notes: list[tuple[str, str]]  # mark, text


def arm_rows(study: Study, trials: Sequence[Trial]) -> list[ArmRow]:
    """One row an arm, in the table's order."""
    by_arm = {arm: [trial for trial in trials if trial.arm == arm] for arm in study.arms}
    chosen = selected_arm(study, trials)
    rows = [
        ArmRow(
            arm=arm,
            done=sum(trial.run is not None for trial in members),
            planned=len(members),
            is_selected=arm == chosen,
            absent=_absent(members),
            stats={
                column.key: stat
                for column in study.table.columns
                if (stat := arm_stat(members, column.key, column.scale)) is not None
            },
        )
        for arm, members in by_arm.items()
    ]
    sort = study.table.sort
    if sort is None:
        return rows
    key, sign = sort.removeprefix("-"), -1.0 if sort.startswith("-") else 1.0
    return sorted(rows, key=lambda row: sign * row.stats[key].mean if key in row.stats else math.inf)


def arm_stat(trials: Sequence[Trial], key: str, scale: float = 1.0) -> Stat | None:
    """The metric `key` over the finished runs among `trials`, or None when none of them defines it."""
    metrics = [trial.run.metrics for trial in trials if trial.run is not None and key in trial.run.metrics]
    values = tuple(run[key] * scale for run in metrics)
    if not values:
        return None
    mean, sd, over_seeds = math.fsum(values) / len(values), None, None
    if len(values) >= 2 and math.isfinite(mean):
        least, greatest = sorted(bound * scale for bound in natural_range(key))
        mean, sd, low, high = seeds_interval(values, LEVEL, (least, greatest))
        over_seeds = (low, high) if len(values) >= 3 else None
    lows = [run[f"{key}_low"] * scale for run in metrics if f"{key}_low" in run]
    highs = [run[f"{key}_high"] * scale for run in metrics if f"{key}_high" in run]
    over_groups = (min(lows), max(highs)) if len(lows) == len(highs) == len(values) else None
    return Stat(values, mean, sd, over_seeds, over_groups)


def build_table(
    study: Study,
    trials: Sequence[Trial],
    hardware: Sequence[str] = (),
    *,
    supported: Collection[str] = (),
    claims: Sequence[str] = ("Differences between arms are not tested here, so nothing is set in bold.",),
) -> Table:
    """The table of a study.

    `hardware` describes the machines of its runs for the caption, `claims` are the caption's sentences on what was
    tested. Arms that are `supported`, that is, their difference from the baseline, stand in bold with the compared
    metric.
    """
    rows = arm_rows(study, trials)
    notes, usual_seeds = _Notes(), _usual_seeds(rows)
    header = ["Arm"]
    for column in study.table.columns:
        header.append(column.label or column.key)
        header += [f"95 % over {kind}" for kind in column.interval]
    body = []
    for row in rows:
        cells = [_arm_cell(row, usual_seeds, notes)]
        for column in study.table.columns:
            is_bold = row.arm in supported and column.key == compared_key(study)
            cells += _cells(row, column, notes, is_bold=is_bold)
        body.append(cells)
    marked = [(CHOSEN, selection_text(study.select))] if any(row.is_selected for row in rows) else []
    return Table(
        title=title_of(study),
        header=header,
        rows=body,
        caption=[*_caption(study, trials, rows, hardware), *claims],
        notes=marked + notes.listed(),
    )


def compared_key(study: Study) -> str:
    """The metric of the study's comparisons."""
    return study.table.compared_key


def column_of(study: Study, key: str) -> Column:
    """The table's column of `key`, for its label, format and scale."""
    return next((column for column in study.table.columns if column.key == key), Column(key))


def title_of(study: Study) -> str:
    """The study's name with its data note, which no number goes without."""
    return f"{study.name} ({study.data_note})" if study.data_note else study.name


def selection_text(select: Selection) -> str:
    """How the selected arm was chosen."""
    return f"selected: the {'highest' if select.mode == 'max' else 'lowest'} mean of {select.key}"


@dataclass
class _Notes:
    """Footnotes in order of first use; the same words share a letter."""

    texts: list[str] = field(default_factory=list)

    def mark(self, text: str) -> str:
        if text not in self.texts:
            self.texts.append(text)
        return self._letter(self.texts.index(text))

    def listed(self) -> list[tuple[str, str]]:
        return [(self._letter(i), text) for i, text in enumerate(self.texts)]

    @staticmethod
    def _letter(index: int) -> str:
        repeats, letter = divmod(index, len(LETTERS))
        return LETTERS[letter] * (repeats + 1)


def _usual_seeds(rows: Sequence[ArmRow]) -> int:
    """How many finished runs most arms have; 0 when there are none."""
    counts = Counter(row.done for row in rows if row.done)
    return max(counts, key=lambda seeds: (counts[seeds], seeds), default=0)


def _arm_cell(row: ArmRow, usual_seeds: int, notes: _Notes) -> Cell:
    marks: tuple[str, ...] = (CHOSEN,) if row.is_selected else ()
    if row.absent:
        marks += (notes.mark(f"{row.done} of {row.planned} trials: {row.absent}"),)
    elif row.done != usual_seeds:
        marks += (notes.mark("one seed: no spread" if row.done == 1 else f"{row.done} seeds"),)
    return Cell(row.arm, marks)


def _cells(row: ArmRow, column: Column, notes: _Notes, *, is_bold: bool) -> list[Cell]:
    """The value of a column and its intervals."""
    stat = row.stats.get(column.key)
    if stat is None:
        # Why an arm has no numbers at all stands at its name.
        marks = (notes.mark("not defined for these runs"),) if row.done else ()
        return [Cell(ABSENT, marks)] * (1 + len(column.interval))
    qualified = []
    if len(stat.values) < row.done:
        qualified.append(notes.mark(f"defined in {len(stat.values)} of {row.done} runs"))
    if not math.isfinite(stat.mean):
        qualified.append(notes.mark(_INFINITE))
    if column.per == "arm" and len(set(stat.values)) > 1:
        qualified.append(notes.mark("the mean of runs that differ"))
    text = format(stat.mean, column.format)
    if column.per == "seeds" and stat.sd is not None:
        text += f" ± {format(stat.sd, column.format)}"
    value = Cell(text, tuple(qualified), is_bold)
    return [value, *(_interval_cell(stat, column, kind, notes) for kind in column.interval)]


def _interval_cell(stat: Stat, column: Column, kind: str, notes: _Notes) -> Cell:
    bounds = stat.over_seeds if kind == "seeds" else stat.over_groups
    if bounds is not None:
        return Cell(f"[{format(bounds[0], column.format)}, {format(bounds[1], column.format)}]")
    # An interval over seeds that is missing is explained by the number of seeds, in the caption or at the arm.
    without = "the runs were evaluated without a bootstrap of this metric"
    return Cell(ABSENT, (notes.mark(without),) if kind == "groups" else ())


def _absent(trials: Sequence[Trial]) -> str:
    """The trials of an arm that are not in its numbers, with the reason, in words."""
    seeds: dict[str, list[str]] = {}
    for trial in trials:
        if trial.run is None:
            why = f"{trial.status} ({trial.note})" if trial.note else str(trial.status)
            seeds.setdefault(why, []).append(str(trial.seed))
    return "; ".join(f"seed{'s' * (len(of) > 1)} {', '.join(of)} {why}" for why, of in seeds.items())


def _caption(study: Study, trials: Sequence[Trial], rows: Sequence[ArmRow], hardware: Sequence[str]) -> list[str]:
    done = [(trial.arm, trial.run) for trial in trials if trial.run is not None]
    kinds = {kind for column in study.table.columns for kind in column.interval}
    sentences = []
    usual = _usual_seeds(rows)
    if usual:
        over = f"{usual} seeds" if usual > 1 else "one seed, so without a spread"
        marked = ", where not marked" if any(row.done not in (0, usual) for row in rows) else ""
        sentences.append(f"Mean ± sample standard deviation over {over}{marked}.")
    if "seeds" in kinds:
        sentences.append("Over seeds: 95 % Student's t interval of the mean; it takes three runs.")
    if "groups" in kinds:
        sentences.append(
            "Over groups: the span of the runs' 95 % bootstrap intervals, each over the groups of the test set."
        )
    sentences += _test_sets(done)
    commits = sorted({_commit(run) for _, run in done})
    if commits:
        sentences.append(f"Commit{'s' if len(commits) > 1 else ''} {', '.join(commits)}.")
    if hardware:
        sentences.append(f"Hardware: {'; '.join(hardware)}.")
    return sentences


def _test_sets(runs: Sequence[tuple[str, FinishedRun]]) -> list[str]:
    """What was tested on: one sentence, or one for each of the test sets when arms differ in it."""
    arms_of: dict[str, list[str]] = {}
    for arm, run in runs:
        metrics, tags = run.metrics, run.tags
        if "test/n" not in metrics:
            continue
        words = f"{metrics['test/n']:.0f} images in {metrics.get('test/n_groups', math.nan):.0f} groups"
        if "test/prevalence" in metrics:
            words += f", prevalence {metrics['test/prevalence']:.3f}"
        if metrics.get("test/n_errors", 0):
            words += f", {metrics['test/n_errors']:.0f} without a score"
        words += f" ({tags.get('figleaf.data_name', 'data')}, data hash {tags.get('figleaf.data_hash', '?')[:12]})"
        arms = arms_of.setdefault(words, [])
        if arm not in arms:
            arms.append(arm)
    if len(arms_of) == 1:
        return [f"Test set: {words}." for words in arms_of]
    return [f"Test set of {', '.join(arms)}: {words}." for words, arms in arms_of.items()]


def _commit(run: FinishedRun) -> str:
    changed = " with changes" if run.tags.get("figleaf.git_dirty", "false").lower() == "true" else ""
    return run.tags.get("figleaf.git_commit", "unknown")[:10] + changed
