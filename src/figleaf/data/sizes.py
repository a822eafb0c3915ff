"""How large the pictures of a data set are, from the heads of their files: nothing is decoded."""

import io
from pathlib import Path

from PIL import Image

from figleaf.data.content import parallel
from figleaf.data.decode import quiet_pillow, read_bytes
from figleaf.data.manifest import Manifest
from figleaf.data.member import File


def picture_sizes(manifest: Manifest, workers: int | None = None) -> list[tuple[int, int] | None]:
    """Width and height of each sample as its file says, before EXIF turns it; None where the head cannot be read."""
    with quiet_pillow():
        return list(parallel(_size, manifest.paths, workers))


def _size(file: File) -> tuple[int, int] | None:
    if isinstance(file, Path) and not file.is_file():  # opening a pipe would wait for ever
        return None
    try:
        with Image.open(file if isinstance(file, Path) else io.BytesIO(read_bytes(file))) as image:
            return image.size
    # As in decoding: files made to break a decoder make it raise what it likes.
    except Exception:
        return None
