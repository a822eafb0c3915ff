"""From the bytes of pictures to answers: decoded by threads, scored in micro-batches, behind a queue with an end."""

import asyncio
import logging
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from figleaf.data.decode import DecodeError, TooManyPixelsError, UnknownFormatError, decode_resized
from figleaf.evaluate.policy import Policy
from figleaf.evaluate.scorer import Scorer
from figleaf.serve.http.batcher import Batcher
from figleaf.serve.http.body import HeldBytes
from figleaf.serve.http.form import Sent
from figleaf.serve.http.limits import Limits, RefusedError, overloaded
from figleaf.serve.http.metrics import Metrics
from figleaf.serve.predict import Answer, batch_answers, judged

_REASON_LENGTH = 200  # of what a decoder says: it may quote the file
_log = logging.getLogger(__name__)

RgbU8 = NDArray[np.uint8]


@dataclass(frozen=True)
class Outcome:
    """The answer for one picture, and its HTTP `status`: 200 where it has a score."""

    answer: Answer
    status: int = 200


class Scoring:
    """Scores pictures with `scorer`, by its `threshold` or a `policy`, within `limits`.

    `workers` threads decode. `batch_size` and `batch_wait_s` are those of the `Batcher`. To be entered with `async
    with`, on the event loop that asks.
    """

    def __init__(
        self,
        scorer: Scorer,
        limits: Limits,
        *,
        threshold: float | None = None,
        policy: Policy | None = None,
        batch_size: int,
        batch_wait_s: float,
        workers: int,
    ) -> None:
        self.scorer, self.limits, self.threshold, self.policy = scorer, limits, threshold, policy
        self.waiting = 0
        self.held = HeldBytes(limits.held_bytes)
        self.metrics = Metrics(lambda: self.waiting, lambda: self.held.bytes)
        self._workers, self._batch_size, self._batch_wait_s = workers, batch_size, batch_wait_s

    async def __aenter__(self) -> "Scoring":
        self.decoders = ThreadPoolExecutor(self._workers, thread_name_prefix="decoding")
        self._batcher: Batcher[tuple[str, RgbU8], Answer] = Batcher(self._score, self._batch_size, self._batch_wait_s)
        self._batcher.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._batcher.stop()
        self.decoders.shutdown(wait=False, cancel_futures=True)

    @property
    def is_ready(self) -> bool:
        """Whether pictures that are sent will be scored."""
        return self._batcher.lives

    def require_room(self, pictures: int = 1) -> None:
        """Raises `RefusedError` (503) when the queue has no room for so many more."""
        if self.waiting + pictures > self.limits.queue:
            raise overloaded(f"{self.waiting} pictures wait already, and {self.limits.queue} may")

    async def outcomes(self, sent: Sequence[Sent]) -> list[Outcome]:
        """An outcome for each picture, in order.

        Raises `RefusedError`: 503 when the queue has no room for them all, 500 when the model itself fails.
        """
        self.require_room(len(sent))
        self.waiting += len(sent)
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(self._outcome(picture)) for picture in sent]
        except ExceptionGroup as failed:  # of the tasks, which raise one kind
            raise failed.exceptions[0] from None
        finally:
            self.waiting -= len(sent)
        outcomes = [task.result() for task in tasks]
        for outcome in outcomes:
            self.metrics.pictures.labels(outcome.status).inc()
        return outcomes

    async def _outcome(self, sent: Sent) -> Outcome:
        try:
            if sent.refused is not None:
                raise sent.refused
            loop = asyncio.get_running_loop()
            rgb_u8 = await loop.run_in_executor(self.decoders, self._decoded, sent.content)
        except RefusedError as refused:
            answer = Answer(sent.name, refused.reason)
            return Outcome(answer if self.policy is None else judged(answer, self.policy), refused.status)
        try:
            answer = await self._batcher.result((sent.name, rgb_u8))
        except Exception as error:  # runtimes have errors of their own
            _log.error("scoring failed: %s", type(error).__name__)
            raise RefusedError(500, "the model failed; see the server's log") from None
        return Outcome(answer, 200 if answer.error is None else 500)

    def _decoded(self, content: bytes) -> RgbU8:
        try:
            return decode_resized(content, self.scorer.input_size, max_pixels=self.limits.pixels)
        except DecodeError as error:
            status = {TooManyPixelsError: 413, UnknownFormatError: 415}.get(type(error), 422)
            raise RefusedError(status, error.reason[:_REASON_LENGTH]) from None
        except MemoryError:
            raise RefusedError(413, "more than there is memory for") from None

    def _score(self, batch: Sequence[tuple[str, RgbU8]]) -> list[Answer]:
        start = time.perf_counter()
        found = list(batch_answers(self.scorer, batch, threshold=self.threshold, policy=self.policy))
        self.metrics.batch_size.observe(len(batch))
        self.metrics.batch_seconds.observe(time.perf_counter() - start)
        return found
