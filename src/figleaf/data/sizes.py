"""How large the pictures of a data set are, from the heads of their files: nothing is decoded."""

from pathlib import Path

from PIL import Image

from figleaf.data.content import parallel
from figleaf.data.decode import quiet_pillow
from figleaf.data.manifest import Manifest


def picture_sizes(manifest: Manifest, workers: int | None = None) -> list[tuple[int, int] | None]:
    """Width and height of each sample as its file says, before EXIF turns it; None where the head cannot be read."""
    with quiet_pillow():
        return list(parallel(_size, manifest.paths, workers))


def _size(path: Path) -> tuple[int, int] | None:
    if not path.is_file():  # opening a pipe would wait for ever
        return None
    try:
        with Image.open(path) as image:
            return image.size
    # As in decoding: files made to break a decoder make it raise what it likes.
    except Exception:
        return None
