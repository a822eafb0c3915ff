"""Scoring a stream of pictures: decoded by threads, scored in batches, an answer for each, in order.

Memory does not grow with the stream. With an exported ONNX file it needs numpy, Pillow and onnxruntime alone.
"""

import os
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from figleaf.data.decode import MAX_PIXELS, DecodeError, decode_resized, quiet_pillow
from figleaf.evaluate.policy import Policy
from figleaf.evaluate.scorer import Scorer
from figleaf.serve.items import Item

BATCH_SIZE = 32


@dataclass(frozen=True)
class Answer:
    """What a picture got: P(class) by class, or `error`, why it has none.

    `label` is the class with the highest probability, `score` the probability of the unsafe ones together (None where
    none is), `flagged` whether the score reaches the threshold (None where there is no score or no threshold).
    `action` is what a policy does with it (None without one); what has no score is to be reviewed.
    """

    path: str
    error: str | None
    label: str | None = None
    score: float | None = None
    flagged: bool | None = None
    probabilities: dict[str, float] | None = None
    action: str | None = None

    @property
    def row(self) -> dict[str, Any]:
        """Plain JSON values: `path`, `score`, `flagged`, with a policy `action`, `label`, `probabilities`, `error`."""
        return {
            "path": self.path,
            "score": self.score,
            "flagged": self.flagged,
            **({} if self.action is None else {"action": self.action}),
            "label": self.label,
            "probabilities": self.probabilities,
            "error": self.error,
        }


def answers(
    scorer: Scorer,
    items: Iterable[Item],
    *,
    threshold: float | None = None,
    policy: Policy | None = None,
    batch_size: int = BATCH_SIZE,
    workers: int | None = None,
    max_pixels: int = MAX_PIXELS,
) -> Iterator[Answer]:
    """An answer for each item, in order. `workers` threads decode (default: the cores that this process may use).

    With a `policy`, made for this scorer, logits are divided by its temperature, each answer has an action, and a
    picture is flagged unless it passes; `threshold` is not asked. The next batch is decoded while one is scored; no
    more than that is held.
    """
    workers = workers or len(os.sched_getaffinity(0))
    size = scorer.input_size

    def picture(item: Item) -> NDArray[np.uint8] | str:
        try:
            return decode_resized(item.read(), size, max_pixels=max_pixels)
        except DecodeError as error:
            return error.reason
        except MemoryError:
            return "more than there is memory for"

    source = iter(items)
    with quiet_pillow(), ThreadPoolExecutor(workers) as pool:
        pending: deque[tuple[str, Future[NDArray[np.uint8] | str]]] = deque()

        def take(count: int) -> None:
            for item in islice(source, count):
                pending.append((item.name, pool.submit(picture, item)))

        take(2 * batch_size)
        while pending:
            batch = [
                (name, future.result())
                for name, future in (pending.popleft() for _ in range(min(batch_size, len(pending))))
            ]
            take(batch_size)
            yield from batch_answers(scorer, batch, threshold=threshold, policy=policy)


def batch_answers(
    scorer: Scorer,
    batch: Sequence[tuple[str, NDArray[np.uint8] | str]],
    *,
    threshold: float | None = None,
    policy: Policy | None = None,
) -> Iterator[Answer]:
    """An answer for each name in order: what is (S, S, 3) is scored, in one batch; a text is why there is no picture.

    `threshold` and `policy` as in `answers`.
    """
    for answer in _scored(scorer, batch, threshold, 1.0 if policy is None else policy.temperature):
        yield answer if policy is None else judged(answer, policy)


def judged(answer: Answer, policy: Policy) -> Answer:
    """With its action. What could not be scored may be anything, so people look at it."""
    if answer.score is None:
        return replace(answer, action="review")
    action = policy.action(answer.score)
    return replace(answer, action=action, flagged=action != "pass")


def _scored(
    scorer: Scorer, batch: Sequence[tuple[str, NDArray[np.uint8] | str]], threshold: float | None, temperature: float
) -> Iterator[Answer]:
    pictures = [found for _, found in batch if not isinstance(found, str)]
    rows: Iterator[NDArray[np.float64]] = iter(())
    if pictures:
        rows = iter(scorer.logits(np.stack(pictures)).astype(np.float64))
    is_unsafe = np.isin(scorer.classes, scorer.unsafe)
    for name, found in batch:
        if isinstance(found, str):
            yield Answer(name, found)
            continue
        logits = next(rows) / temperature
        if not np.isfinite(logits).all():
            yield Answer(name, "the logits are not finite")
            continue
        probabilities = np.exp(logits - logits.max())
        probabilities /= probabilities.sum()
        score = min(1.0, float(probabilities[is_unsafe].sum())) if is_unsafe.any() else None
        yield Answer(
            path=name,
            error=None,
            label=scorer.classes[int(probabilities.argmax())],
            score=score,
            flagged=None if score is None or threshold is None else score >= threshold,
            probabilities=dict(zip(scorer.classes, probabilities.tolist(), strict=True)),
        )
