"""Micro-batching: what comes at about the same time is worked on together."""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Generic, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


class Batcher(Generic[Item, Result]):
    """Gathers items into batches, which `work` is called with in a thread of its own, one batch after the other.

    A batch is begun when `size` items are there, or `wait_s` after its first one came. While one is worked on the next
    gathers. `work` gives a result for each item, in order; what it raises, each item of the batch gets. Items whose
    waiter has gone are left out.
    """

    def __init__(self, work: Callable[[Sequence[Item]], Sequence[Result]], size: int, wait_s: float) -> None:
        self._work, self._size, self._wait_s = work, size, wait_s
        self._gathered: deque[tuple[Item, asyncio.Future[Result], float]] = deque()
        self._some, self._enough = asyncio.Event(), asyncio.Event()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="scoring")
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to work, on the event loop that runs."""
        self._task = asyncio.create_task(self._run())

    @property
    def lives(self) -> bool:
        """Whether it works on what is given to it."""
        return self._task is not None and not self._task.done()

    async def stop(self) -> None:
        """Let the batch that is being worked on end, and take no other."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        self._thread.shutdown()

    async def result(self, item: Item) -> Result:
        """What `work` gives for the item, in whichever batch."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Result] = loop.create_future()
        self._gathered.append((item, future, loop.time()))
        self._some.set()
        if len(self._gathered) >= self._size:
            self._enough.set()
        return await future

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await self._some.wait()
            await self._fill(self._gathered[0][2] + self._wait_s - loop.time())
            taken = [self._gathered.popleft() for _ in range(min(self._size, len(self._gathered)))]
            if not self._gathered:
                self._some.clear()
            if len(self._gathered) < self._size:
                self._enough.clear()
            batch = [(item, future) for item, future, _ in taken if not future.done()]
            if batch:
                await self._answer(batch)

    async def _fill(self, seconds: float) -> None:
        """Wait for as many as a batch takes, or for its time to be over."""
        if seconds <= 0 or self._enough.is_set():
            return
        with suppress(TimeoutError):
            await asyncio.wait_for(self._enough.wait(), seconds)

    async def _answer(self, batch: Sequence[tuple[Item, "asyncio.Future[Result]"]]) -> None:
        try:
            items = [item for item, _ in batch]
            results = await asyncio.get_running_loop().run_in_executor(self._thread, self._work, items)
        except Exception as error:
            for _, future in batch:
                if not future.done():
                    future.set_exception(error)
            return
        for (_, future), result in zip(batch, results, strict=True):
            if not future.done():
                future.set_result(result)
