"""A grid seen two factors at a time: one in the rows, one in the columns, as VGG's tables 4 and 5 are laid out."""

import statistics
from collections.abc import Sequence

from figleaf.study.plan import Trial
from figleaf.study.spec import Column, Study
from figleaf.study.table import ABSENT, Cell, Table, compared_key, title_of


def pivot_table(study: Study, trials: Sequence[Trial], column: Column) -> Table:
    """Mean ± sd over seeds of `column` by `table.pivot`'s two factors; the other factors are averaged seed by seed.

    A seed counts in a cell when all runs that are averaged there are finished.
    """
    down, across = study.table.pivot
    place = {factor: i for i, factor in enumerate(study.grid)}
    runs = {(t.arm, t.seed): t.run for t in trials if t.run is not None and column.key in t.run.metrics}
    averaged = [factor for factor in study.grid if factor not in (down, across)]

    def cell(row: str, head: str) -> Cell:
        arms = [
            arm for arm, labels in study.cells.items() if (labels[place[down]], labels[place[across]]) == (row, head)
        ]
        values = [
            statistics.fmean(run.metrics[column.key] * column.scale for run in of_seed if run)
            for seed in study.seeds
            if all(of_seed := [runs.get((arm, seed)) for arm in arms])
        ]
        if not values:
            return Cell(ABSENT)
        text = format(statistics.fmean(values), column.format)
        return Cell(text + (f" ± {format(statistics.stdev(values), column.format)}" if len(values) > 1 else ""))

    caption = [f"Mean ± sample standard deviation over up to {len(study.seeds)} seeds"]
    caption[0] += f", averaged over {' and '.join(averaged)}." if averaged else "."
    return Table(
        title=f"{title_of(study)}: {column.label or compared_key(study)}, {down} by {across}",
        header=[down, *study.grid[across]],
        rows=[[Cell(row), *(cell(row, head) for head in study.grid[across])] for row in study.grid[down]],
        caption=caption,
        notes=[],
    )
