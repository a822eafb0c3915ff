"""A scoring server in the test's own process, with a scorer that needs no runtime."""

import threading
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import BytesIO
from typing import Any

import numpy as np
from PIL import Image

from figleaf.serve.http.app import build_app
from figleaf.serve.http.limits import Limits
from figleaf.serve.http.scoring import Scoring
from figleaf.serve.http.token import Token

with warnings.catch_warnings():  # newer versions of Starlette want another client, which is not one of ours
    warnings.simplefilter("ignore")
    from starlette.testclient import TestClient

CLASSES, UNSAFE = ("safe", "nsfw"), ("nsfw",)


class RedScorer:
    """P(nsfw) is how red a picture is on the whole; counts the batches that it is given."""

    classes, unsafe, input_size = CLASSES, UNSAFE, 8

    def __init__(self) -> None:
        self.batches: list[int] = []
        self.goes = threading.Event()
        self.goes.set()
        self.error: Exception | None = None

    def logits(self, rgb_u8: np.ndarray) -> np.ndarray:
        self.batches.append(len(rgb_u8))
        assert self.goes.wait(30)
        if self.error is not None:
            raise self.error
        red = rgb_u8[..., 0].mean(axis=(1, 2)) / 255
        return np.stack([np.zeros(len(red)), 8 * red - 4], axis=1).astype(np.float32)


def scoring(scorer: Any = None, **changes: Any) -> Scoring:
    settings = {"threshold": 0.5, "batch_size": 8, "batch_wait_s": 0.001, "workers": 2}
    limits = {key: changes.pop(key) for key in list(changes) if key in Limits.__dataclass_fields__}
    return Scoring(scorer or RedScorer(), Limits(**limits), **{**settings, **changes})


@contextmanager
def client(scorer: Any = None, *, token: str | None = None, **changes: Any) -> Iterator[TestClient]:
    app = build_app(scoring(scorer, **changes), {"model": {"name": "red"}}, None if token is None else Token(token))
    with TestClient(app, base_url="http://127.0.0.1:8000", raise_server_exceptions=False) as found:
        yield found


def picture(color: Any = "red", size: tuple[int, int] = (20, 10), format: str = "PNG") -> bytes:
    buffer = BytesIO()
    Image.new("RGB", size, color).save(buffer, format)
    return buffer.getvalue()


def form(*contents: bytes, names: Sequence[str] | None = None, field: str = "images") -> list[Any]:
    """`files=` of a client: the pictures in the field `images`."""
    return [
        (field, ((names[number] if names else f"{number}.png"), content, "image/png"))
        for number, content in enumerate(contents)
    ]


def multipart(*parts: bytes, boundary: str = "B") -> tuple[bytes, dict[str, str]]:
    """A form written by hand: its body, and the headers that go with it."""
    body = b"".join(b"--" + boundary.encode() + b"\r\n" + part + b"\r\n" for part in parts)
    return body + f"--{boundary}--\r\n".encode(), {"Content-Type": f"multipart/form-data; boundary={boundary}"}


def until(true: Any, seconds: float = 10) -> None:
    """Wait for something to become true."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "it did not become true"
        time.sleep(0.005)
