"""Micro-batches: what comes together is worked on together, and nothing is lost."""

import asyncio
import threading
import time
from collections.abc import Sequence

import pytest

from figleaf.serve.http.batcher import Batcher


class Doubling:
    """Work that notes its batches; it waits for `goes`."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.goes = threading.Event()
        self.goes.set()

    def __call__(self, items: Sequence[int]) -> list[int]:
        self.batches.append(list(items))
        assert self.goes.wait(10)
        if -1 in items:
            raise ValueError("-1")
        return [2 * item for item in items]


def run(work: Doubling, size: int, wait_s: float, items: Sequence[int], between_s: float = 0) -> list[int]:
    async def all_of_them() -> list[int]:
        batcher: Batcher[int, int] = Batcher(work, size, wait_s)
        batcher.start()
        tasks = []
        for item in items:
            tasks.append(asyncio.create_task(batcher.result(item)))
            await asyncio.sleep(between_s)
        try:
            return list(await asyncio.gather(*tasks))
        finally:
            await batcher.stop()

    return asyncio.run(all_of_them())


def test_each_item_gets_its_own_result_in_batches_no_larger_than_asked() -> None:
    work = Doubling()
    assert run(work, 4, 0.05, range(10)) == [2 * item for item in range(10)]
    assert work.batches == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]


def test_a_size_of_one_is_one_at_a_time() -> None:
    work = Doubling()
    assert run(work, 1, 0.05, range(5)) == [0, 2, 4, 6, 8]
    assert [len(batch) for batch in work.batches] == [1] * 5


def test_a_full_batch_waits_for_nobody() -> None:
    start = time.monotonic()
    run(Doubling(), 4, 30, range(8))
    assert time.monotonic() - start < 10


def test_an_item_alone_waits_no_longer_than_asked() -> None:
    work = Doubling()
    assert run(work, 4, 0.01, [1, 2], between_s=0.2) == [2, 4]
    assert work.batches == [[1], [2]]


def test_what_comes_while_a_batch_is_worked_on_is_the_next() -> None:
    work = Doubling()

    async def later() -> None:
        batcher: Batcher[int, int] = Batcher(work, 8, 0)
        batcher.start()
        work.goes.clear()
        first = asyncio.create_task(batcher.result(0))
        while not work.batches:
            await asyncio.sleep(0.001)
        others = [asyncio.create_task(batcher.result(item)) for item in range(1, 6)]
        await asyncio.sleep(0.02)
        work.goes.set()
        await asyncio.gather(first, *others)
        await batcher.stop()

    asyncio.run(later())
    assert work.batches == [[0], [1, 2, 3, 4, 5]]


def test_an_error_goes_to_its_batch_and_to_no_other() -> None:
    work = Doubling()

    async def mixed() -> list[int | BaseException]:
        batcher: Batcher[int, int] = Batcher(work, 2, 0.01)
        batcher.start()
        found = await asyncio.gather(*(batcher.result(i) for i in (1, -1, 2, 3)), return_exceptions=True)
        assert batcher.lives
        await batcher.stop()
        assert not batcher.lives
        return found

    first, second, *rest = asyncio.run(mixed())
    assert isinstance(first, ValueError)
    assert isinstance(second, ValueError)
    assert rest == [4, 6]


def test_who_has_gone_is_not_worked_for() -> None:
    work = Doubling()

    async def gone() -> int:
        batcher: Batcher[int, int] = Batcher(work, 4, 0.05)
        batcher.start()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.001):
                await batcher.result(1)
        result = await batcher.result(2)
        await batcher.stop()
        return result

    assert asyncio.run(gone()) == 4
    assert work.batches == [[2]]
