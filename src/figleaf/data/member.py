"""A file that lies inside a shard: told by where it begins, and held to what it is said to hold.

A manifest of shards names its pictures so, and everything that reads a picture reads them: `read_bytes` takes either
kind. There is no other reader for training: a shard is a tar file that is not compressed, so that a picture in it is
a stretch of bytes, and rows that stand in the order of the shards read each of them from its beginning to its end.
"""

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

from figleaf.errors import FigleafError

SHARD = "shard"  # the column of a manifest that names each row's shard
SHARD_NAME = re.compile(r"shard-\d{5,}\.tar")
AGAIN = "copy the shards again, or make them anew with `figleaf data shard`"


@dataclass(frozen=True)
class Member:
    """`n_bytes` from `offset` on in the file `shard`, whose SHA-256 (hex) is `sha256`; `name` is the picture's own.

    `error` is the reason why the file could not be read when the shard was made; then there are no bytes.
    """

    shard: Path
    name: str
    offset: int = 0
    n_bytes: int = 0
    sha256: str = ""
    error: str | None = None

    def __str__(self) -> str:
        return f"{self.shard}::{self.name}"

    @classmethod
    def parse(cls, folder: Path, shard: str, name: str, place: str) -> "Member":
        """Of the file `shard` of `folder`, from the text of `place`. Raises `FigleafError` for any other text."""
        if not SHARD_NAME.fullmatch(shard):
            raise FigleafError(f"{folder}: {name} is said to lie in {shard!r}, which is no shard of this folder")
        if error := re.fullmatch("! (.+)", place):
            return cls(folder / shard, name, error=error[1])
        if (found := re.fullmatch(r"(\d{1,15})\+(\d{1,10}) ([0-9a-f]{64})", place)) is None:
            raise FigleafError(f"{folder / shard}: {name} is said to lie at {place[:80]!r}; {AGAIN}")
        return cls(folder / shard, name, int(found[1]), int(found[2]), found[3])

    @property
    def place(self) -> str:
        """One text for a table's cell: `OFFSET+BYTES SHA256`, or `! REASON`."""
        return f"! {self.error}" if self.error is not None else f"{self.offset}+{self.n_bytes} {self.sha256}"

    def read(self) -> bytes:
        """The bytes. Raises `FigleafError` when they are not those that the shard was made of.

        Other than a loose file, which may well have been changed by its owner, such a shard is damaged as a whole.
        """
        try:
            with self.shard.open("rb") as file:
                file.seek(self.offset)
                found = file.read(self.n_bytes)
        except OSError as error:
            raise FigleafError(f"{self.shard}: cannot be read: {error.strerror}; {AGAIN}") from error
        if hashlib.sha256(found).hexdigest() != self.sha256:
            raise FigleafError(f"{self.shard}: damaged: {self.name} is not what the index says; {AGAIN}")
        return found


# What a manifest's paths lead to.
File = Path | Member
