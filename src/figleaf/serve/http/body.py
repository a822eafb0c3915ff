"""Bodies as they stream in: what a request may bring, and what all of them together may hold."""

from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager

from fastapi import Request

from figleaf.serve.http.limits import Limits, RefusedError, overloaded


class HeldBytes:
    """What all requests hold of their bodies, in `bytes`, of at most `limit`."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.bytes = 0

    @contextmanager
    def share(self) -> Iterator["Share"]:
        """One request's part, given back at the end."""
        share = Share(self)
        try:
            yield share
        finally:
            self.bytes -= share.bytes


class Share:
    """One request's part of the bytes that are held."""

    def __init__(self, all_held: HeldBytes) -> None:
        self._all = all_held
        self.bytes = 0

    def hold(self, count: int) -> None:
        """From now on hold `count`. Raises `RefusedError` (503) when all requests together would hold too much."""
        more = count - self.bytes
        if more > 0 and self._all.bytes + more > self._all.limit:
            raise overloaded(f"requests hold {self._all.bytes:,} bytes already")
        self._all.bytes += more
        self.bytes = count


async def chunks(request: Request, limits: Limits) -> AsyncIterator[bytes]:
    """The body piece by piece.

    Raises `RefusedError` for a body that is said to be too long (413, nothing is read), is longer than allowed (413, at
    the piece that goes beyond), or is packed (415).
    """
    if request.headers.get("content-encoding", "identity").strip().lower() != "identity":
        raise RefusedError(415, "content-encoding: a packed body is not unpacked; send it as it is")
    too_long = RefusedError(413, f"the request is longer than {limits.request_bytes:,} bytes")
    said = request.headers.get("content-length", "")
    if said.isdecimal() and (len(said) > 18 or int(said) > limits.request_bytes):
        raise too_long
    seen = 0
    async for chunk in request.stream():
        seen += len(chunk)
        if seen > limits.request_bytes:
            raise too_long
        yield chunk
