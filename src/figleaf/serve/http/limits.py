"""What requests may ask for, one by one and all together, and the refusal of one that asks for more."""

from dataclasses import dataclass

from figleaf.errors import FigleafError

RETRY_AFTER_S = 1  # told to who comes while there is no room: a queue of small pictures is worked off in about that


@dataclass(frozen=True)
class Limits:
    """Of a picture: `picture_bytes` as sent and `pixels`; of a request: `pictures` and `request_bytes`.

    Of all requests together: `queue`, the pictures that wait or are being scored, and `held_bytes`, what is kept of
    bodies that have not been answered. `seconds` is how long a body may take to arrive, and then an answer to be found.

    Raises `FigleafError` for a limit that is none, and for one that no request could keep.
    """

    picture_bytes: int = 16 << 20
    request_bytes: int = 32 << 20
    held_bytes: int = 256 << 20
    pictures: int = 32
    pixels: int = 40_000_000
    queue: int = 256
    seconds: float = 30.0

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not value > 0:
                raise FigleafError(f"{name}={value}: expected more than 0")
        if self.pictures > self.queue:
            raise FigleafError(f"pictures={self.pictures}: a request of that many never fits into queue={self.queue}")
        if self.request_bytes > self.held_bytes:
            raise FigleafError(
                f"request_bytes={self.request_bytes}: such a request never fits into held_bytes={self.held_bytes}"
            )


class RefusedError(Exception):
    """A request, or one picture of it, that gets no score: the HTTP `status` and the `reason` in plain words.

    `retry_after_s` is set where the same request may well be taken later.
    """

    def __init__(self, status: int, reason: str, retry_after_s: int | None = None) -> None:
        super().__init__(reason)
        self.status, self.reason, self.retry_after_s = status, reason, retry_after_s


def overloaded(what: str) -> RefusedError:
    """503: there is no room now."""
    return RefusedError(503, f"overloaded: {what}; try again", RETRY_AFTER_S)
