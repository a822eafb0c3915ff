"""The secret that a client must know: read from a file or the environment, never from a command line."""

import hmac
import os
import stat
from collections.abc import Callable, MutableMapping
from pathlib import Path

from figleaf.errors import FigleafError

VARIABLE = "FIGLEAF_TOKEN"
LEAST_LENGTH = 16
_LONGEST = 4096
_HOW = "make one with: python -c 'import secrets; print(secrets.token_urlsafe(32))'"


class Token:
    """A bearer token, which is compared in constant time and never shown."""

    def __init__(self, secret: str) -> None:
        self._expected = secret.encode("ascii")

    def __repr__(self) -> str:
        return "Token(...)"

    def is_in(self, authorization: str) -> bool:
        """Whether an `Authorization` header has it."""
        scheme, _, given = authorization.partition(" ")
        return scheme.lower() == "bearer" and hmac.compare_digest(
            given.strip().encode("utf-8", "replace"), self._expected
        )


def read_token(file: Path | None, environment: MutableMapping[str, str], warn: Callable[[str], None]) -> Token | None:
    """The token of `file`, or else of `FIGLEAF_TOKEN`, which is taken out of `environment`; None where neither is.

    Raises `FigleafError` for one that is too short, or has characters that a header cannot carry. `warn` is told of a
    file that others may read.
    """
    given = environment.pop(VARIABLE, None)
    if file is None:
        return None if given is None else _checked(given.strip(), VARIABLE)
    if given is not None:
        raise FigleafError(f"--token-file and {VARIABLE}: give one of the two")
    try:
        with file.open("rb") as opened:
            if os.fstat(opened.fileno()).st_mode & (stat.S_IRGRP | stat.S_IROTH):
                warn(f"{file}: other users may read it; chmod 600 {file}")
            content = opened.read(_LONGEST + 1)
    except OSError as error:
        raise FigleafError(f"--token-file {file}: {error.strerror}; {_HOW}") from error
    if len(content) > _LONGEST:
        raise FigleafError(f"--token-file {file}: longer than any token; {_HOW}")
    return _checked(content.decode("utf-8", "replace").strip(), f"--token-file {file}")


def _checked(secret: str, source: str) -> Token:
    if len(secret) < LEAST_LENGTH:
        raise FigleafError(f"{source}: {len(secret)} characters; expected at least {LEAST_LENGTH}; {_HOW}")
    if not secret.isascii() or not secret.isprintable() or " " in secret:
        raise FigleafError(f"{source}: expected printable ASCII without spaces; {_HOW}")
    return Token(secret)
