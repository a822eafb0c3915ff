"""What is seen while a study runs, on standard error: live bars where a person looks, else a line an event."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from figleaf.study.launch import Active, Display, Outcome


class LineDisplay:
    """A line when a trial starts and when it ends."""

    def __init__(self, total: int, console: Console) -> None:
        self._total, self._console = total, console
        self._ended = 0

    def started(self, active: Active) -> None:
        """Say so."""
        self._say(f"{active.trial.name}: started")

    def ended(self, outcome: Outcome) -> None:
        """Say how it ended."""
        self._ended += 1
        self._say(f"[{self._ended}/{self._total}] {ending(outcome)}")

    def tick(self, active: Sequence[Active]) -> None:
        """Nothing: a log is read afterwards."""

    def _say(self, text: str) -> None:
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)


class LiveDisplay:
    """A bar for the study with the time left, and one for each trial at work with its epochs."""

    def __init__(self, name: str, total: int, jobs: int, progress: Progress) -> None:
        self._name, self._total, self._jobs, self._progress = name, total, jobs, progress
        self._bars: dict[str, TaskID] = {}
        self._ended: list[Outcome] = []
        self._whole = progress.add_task(name, total=total, detail="")

    def started(self, active: Active) -> None:
        """Add its bar."""
        # What only measures has no epochs: its bar moves without an end.
        config = active.trial.config
        epochs = config.trainer.epochs if config.evaluation is None else None
        self._bars[active.trial.name] = self._progress.add_task(f"  {active.trial.name}", total=epochs, detail="")

    def ended(self, outcome: Outcome) -> None:
        """Replace its bar by a line."""
        if outcome.trial.name in self._bars:  # else nothing had to be started
            self._progress.remove_task(self._bars.pop(outcome.trial.name))
        self._progress.console.print(ending(outcome), markup=False, highlight=False)
        self._ended.append(outcome)

    def tick(self, active: Sequence[Active]) -> None:
        """Move the bars."""
        for one in active:
            done, total = one.epochs, one.trial.config.trainer.epochs
            trains = one.trial.config.evaluation is None
            detail = (f"epoch {done}/{total}, " if trains else "") + duration(one.seconds)
            detail = "queued" if one.process.is_queued else detail
            self._progress.update(self._bars[one.trial.name], completed=done, detail=detail)
        fractions = [one.fraction for one in active]
        left = seconds_left(self._ended, active, waiting=self._total - len(self._ended) - len(active), jobs=self._jobs)
        failed = sum(bool(outcome.error) for outcome in self._ended)
        parts = [f"{len(self._ended) - failed} done", f"{len(active)} running"]
        parts += [f"{failed} failed"] * (failed > 0)
        parts += [f"about {duration(left)} left"] * (left is not None)
        self._progress.update(self._whole, completed=len(self._ended) + sum(fractions), detail=", ".join(parts))


@contextmanager
def open_display(name: str, total: int, jobs: int) -> Iterator[Display]:
    """The display for `total` trials of the study `name`, of which `jobs` run at a time."""
    console = Console(stderr=True)
    if not sys.stderr.isatty():
        yield LineDisplay(total, console)
        return
    columns = (TextColumn("{task.description}"), BarColumn(bar_width=24), TextColumn("{task.fields[detail]}"))
    with Progress(*columns, console=console, refresh_per_second=4) as progress:
        yield LiveDisplay(name, total, jobs, progress)


def ending(outcome: Outcome) -> str:
    """One line on how a trial ended."""
    what = f"failed after {duration(outcome.seconds)}: {outcome.error}"
    return f"{outcome.trial.name}: " + (what if outcome.error else f"{outcome.note} in {duration(outcome.seconds)}")


def seconds_left(ended: Sequence[Outcome], active: Sequence[Active], waiting: int, jobs: int) -> float | None:
    """Estimate of the time until the last trial ends; None before anything is known.

    Trials are taken to last as long as the mean of those that succeeded, or, before one has, as those at work promise.
    """
    lengths = [outcome.seconds for outcome in ended if not outcome.error]
    lengths = lengths or [one.seconds / one.fraction for one in active if one.fraction > 0]
    if not lengths:
        return None
    length = sum(lengths) / len(lengths)
    remaining = [max(0.0, length * (1 - one.fraction)) for one in active]
    return max([(sum(remaining) + waiting * length) / jobs, *remaining])


def duration(seconds: float | None) -> str:
    """Seconds in words: 42 s, 3 min 05 s, 2 h 07 min."""
    whole = round(seconds or 0.0)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
