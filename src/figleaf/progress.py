"""Progress bars: on standard error, and only where a person is looking, so that pipes and logs stay clean."""

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

Item = TypeVar("Item")


def track(items: Iterable[Item], description: str, total: int | None = None) -> Iterator[Item]:
    """Pass `items` through, drawing a bar with the time left when standard error is a terminal."""
    if not sys.stderr.isatty():
        yield from items
        return
    from rich.console import Console
    from rich.progress import track as rich_track

    yield from rich_track(items, description=description, total=total, console=Console(stderr=True))


@contextmanager
def counting(description: str, total: int) -> Iterator[Callable[[int], None]]:
    """A bar for work that says itself how far it is: what comes out is told how much more is done."""
    if not sys.stderr.isatty():
        yield lambda more: None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True)) as bars:
        bar = bars.add_task(description, total=total)
        yield lambda more: bars.advance(bar, more)
