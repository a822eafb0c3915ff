"""Pictures of a table in, rows of answers out: one for every picture, whatever is wrong with it."""

import base64
import binascii
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from figleaf.data.decode import MAX_BYTES, DecodeError
from figleaf.evaluate.scorer import Scorer
from figleaf.serve.items import Item
from figleaf.serve.predict import Answer, answers

IMAGE = "image"  # the one column of a request
PROBABILITY = "prob_"  # before the name of each class: a class may be called "label"


def answered(scorer: Scorer, pictures: Sequence[object], threshold: float | None) -> list[dict[str, Any]]:
    """A row for each of `pictures`, in order: `label`, `score`, `flagged`, `prob_<class>` and `error`.

    A picture is the bytes of an encoded file, or these as base64. The numbers are those of `figleaf predict`. A row
    without an answer has None everywhere and its reason in `error`; otherwise `error` is None.
    """
    items = (Item(str(number), reader(picture)) for number, picture in enumerate(pictures))
    return [row_of(answer, scorer.classes) for answer in answers(scorer, items, threshold=threshold)]


def row_of(answer: Answer, classes: Sequence[str]) -> dict[str, Any]:
    """The answer as a flat row."""
    found = answer.probabilities or {}
    return {
        "label": answer.label,
        "score": answer.score,
        "flagged": answer.flagged,
        **{f"{PROBABILITY}{name}": found.get(name) for name in classes},
        "error": answer.error,
    }


def reader(picture: object) -> Callable[[], bytes]:
    """How the bytes of a cell of the table are read; `DecodeError` when it holds none, or too many."""
    return partial(_bytes_of, picture)


def _bytes_of(picture: object) -> bytes:
    if picture is None or picture != picture:  # an empty cell, which pandas may have made NaN
        raise DecodeError("no picture in this row")
    if isinstance(picture, str):
        # Held against the limit before it is decoded: four characters stand for three bytes.
        if len(picture) > MAX_BYTES // 3 * 4 + 4:
            raise DecodeError(f"text of {len(picture):,} characters; at most {MAX_BYTES:,} bytes are read")
        try:
            content = base64.b64decode("".join(picture.split()), validate=True)
        except (binascii.Error, ValueError):
            raise DecodeError("not base64 of a picture's file") from None
    elif isinstance(picture, bytes | bytearray | memoryview):
        content = bytes(picture)
    else:
        raise DecodeError(f"expected base64 or bytes of a picture's file, found {type(picture).__name__}")
    if len(content) > MAX_BYTES:
        raise DecodeError(f"file of {len(content):,} bytes; at most {MAX_BYTES:,} are read")
    return content
