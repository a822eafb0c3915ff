"""Pictures out of a multipart form, taken from it as it streams in and kept in memory alone.

Starlette's own parser is not used: it puts larger files on the disk, and a picture must never lie there.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from python_multipart import MultipartParser
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import parse_options_header

from figleaf.serve.http.limits import Limits, RefusedError

FIELD = "images"
NAME_LENGTH = 255  # characters that are kept of a name: as many as a file system takes
_HEADER_BYTES = 8192  # of one part
_PIECE_BYTES = 1 << 16


@dataclass(frozen=True)
class Sent:
    """A picture as it was sent: what the sender calls it, its bytes, or why they were not taken."""

    name: str
    content: bytes = b""
    refused: RefusedError | None = None


class PictureForm:
    """The form of a request with this `content_type`; `feed` it the body's pieces, then take the `pictures`.

    All raise `RefusedError`: 415 for another content type, 400 for what is no such form, 413 for too many pictures, 422
    for another field than `FIELD`. A picture that is too long is let go, and marked as refused.
    """

    def __init__(self, content_type: str, limits: Limits) -> None:
        kind, options = parse_options_header(content_type)
        if kind != b"multipart/form-data":
            raise RefusedError(415, f"expected multipart/form-data with pictures in the field {FIELD}")
        if not options.get(b"boundary"):
            raise RefusedError(400, "multipart/form-data without a boundary")
        self._limits = limits
        self._sent: list[Sent] = []
        self._sent_bytes = 0
        self._ended = False
        self._begin()
        callbacks = {
            "on_part_begin": self._begin,
            "on_header_field": self._header_name,
            "on_header_value": self._header_value,
            "on_header_end": self._header_end,
            "on_headers_finished": self._headers_end,
            "on_part_data": self._data,
            "on_part_end": self._part_end,
            "on_end": self._end,
        }
        with _broken_is_refused():
            self._parser = MultipartParser(options[b"boundary"], callbacks)  # type: ignore[arg-type]

    def feed(self, chunk: bytes) -> None:
        """Take the next piece of the body."""
        with _broken_is_refused():
            self._parser.write(chunk)

    @property
    def held_bytes(self) -> int:
        """Bytes of pictures that are held."""
        return self._sent_bytes + (self._bytes if self._pieces else 0)

    def pictures(self) -> list[Sent]:
        """All that were sent, in order, once the body is there."""
        with _broken_is_refused():
            self._parser.finalize()
        if not self._ended:
            raise RefusedError(400, "broken multipart: it ends before its last boundary")
        if not self._sent:
            raise RefusedError(400, f"no picture: expected one or more in the field {FIELD}")
        return self._sent

    def _begin(self) -> None:
        self._header, self._value, self._header_bytes = bytearray(), bytearray(), 0
        self._name: str | None = None
        self._pieces: list[bytearray] = []
        self._bytes = 0

    def _count(self, count: int) -> None:
        self._header_bytes += count
        if self._header_bytes > _HEADER_BYTES:
            raise RefusedError(400, f"broken multipart: a part with more than {_HEADER_BYTES:,} bytes of headers")

    def _header_name(self, data: bytes, start: int, end: int) -> None:
        self._count(end - start)
        self._header += data[start:end]

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._count(end - start)
        self._value += data[start:end]

    def _header_end(self) -> None:
        if bytes(self._header).lower() == b"content-disposition":
            _, options = parse_options_header(bytes(self._value))
            if options.get(b"name", b"").decode("utf-8", "replace") != FIELD:
                raise RefusedError(422, f"another field than {FIELD}: pictures, and nothing else, go into it")
            self._name = options.get(b"filename", b"").decode("utf-8", "replace")[:NAME_LENGTH]
        self._header, self._value = bytearray(), bytearray()

    def _headers_end(self) -> None:
        if self._name is None:
            raise RefusedError(400, "broken multipart: a part without a Content-Disposition that names its field")
        if len(self._sent) == self._limits.pictures:
            raise RefusedError(413, f"more than {self._limits.pictures} pictures in a request")

    def _data(self, data: bytes, start: int, end: int) -> None:
        self._bytes += end - start
        if self._bytes > self._limits.picture_bytes:
            self._pieces.clear()
        else:
            # Pieces of some size: an object for each byte that drips in would take many times its length.
            if not self._pieces or len(self._pieces[-1]) >= _PIECE_BYTES:
                self._pieces.append(bytearray())
            self._pieces[-1] += data[start:end]

    def _part_end(self) -> None:
        if self._name is None:
            raise RefusedError(400, "broken multipart: a part without a Content-Disposition that names its field")
        refused = too_long(self._limits) if self._bytes > self._limits.picture_bytes else None
        self._sent.append(Sent(self._name, b"".join(self._pieces), refused))
        self._sent_bytes += len(self._sent[-1].content)
        self._pieces, self._bytes = [], 0

    def _end(self) -> None:
        self._ended = True


def too_long(limits: Limits) -> RefusedError:
    """413: a picture of more bytes than are taken."""
    return RefusedError(413, f"longer than {limits.picture_bytes:,} bytes")


@contextmanager
def _broken_is_refused() -> Iterator[None]:
    try:
        yield
    except FormParserError as error:
        raise RefusedError(400, f"broken multipart: {error}") from None
