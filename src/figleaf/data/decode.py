"""One picture in, one RGB array out; and the one rule by which pictures are resized.

Whatever is wrong with a file ends in a `DecodeError` with a reason in plain words: never a crash or a black picture.
"""

import errno
import io
import stat
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from figleaf.data.member import File, Member

RgbU8 = NDArray[np.uint8]

# Pictures beyond this are refused by their header, before a pixel is allocated. Pillow's own guard is at 178 million.
MAX_PIXELS = 100_000_000
# A larger file is not read at all: an uncompressed picture of MAX_PIXELS with 16-bit RGBA takes 800 MB.
MAX_BYTES = 1 << 30
# The name of the resize rule, for cache keys and exports: change it when `decode` or `resize` gives other bytes.
RESIZE_RULE = "pillow-bilinear-antialias-squash-v1"

# What may be parsed. Pillow knows many more formats: rarely pictures of the web, and some (EPS) start programs.
# "JPEG" covers MPO, which has no opener of its own: naming it here would make every other format fail.
_FORMATS = ("JPEG", "PNG", "GIF", "WEBP", "AVIF", "BMP", "TIFF", "PPM", "JPEG2000")
_ORIENTATION_TAG = 0x0112
_ORIENTATIONS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class DecodeError(Exception):
    """A file is no picture that can be used; `reason` says why, in a few words."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class UnknownFormatError(DecodeError):
    """The bytes are of no format that is decoded."""


class TooManyPixelsError(DecodeError):
    """The picture has more pixels than are decoded; known from its header."""


@contextmanager
def quiet_pillow() -> Iterator[None]:
    """Keep Pillow's own warnings of odd files from the terminal: a file that cannot be used gets a reason.

    To be entered around threads, not in them: the filters of warnings belong to the process.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"PIL\.")
        yield


def read_bytes(path: File) -> bytes:
    """The bytes of a regular file; `DecodeError` when it is missing, forbidden, no file, empty or too large.

    Of a shard's member: what was put there, or `DecodeError` with the reason why it could not be read at that time.
    """
    if isinstance(path, Member):
        if path.error is not None:
            raise DecodeError(path.error)
        return path.read()
    try:
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            raise DecodeError("a folder, not a file")
        if not stat.S_ISREG(status.st_mode):
            raise DecodeError("not a regular file")  # reading a pipe would wait for ever
        if status.st_size == 0:
            raise DecodeError("empty file")
        if status.st_size > MAX_BYTES:
            raise DecodeError(f"file of {status.st_size:,} bytes; at most {MAX_BYTES:,} are read")
        return path.read_bytes()
    except FileNotFoundError:
        raise DecodeError("broken link" if path.is_symlink() else "no such file") from None
    except PermissionError:
        raise DecodeError("no permission to read it") from None
    except OSError as error:
        reason = "link that leads to itself" if error.errno == errno.ELOOP else f"cannot be read: {error.strerror}"
        raise DecodeError(reason) from None


def decode(source: File | bytes, *, max_pixels: int = MAX_PIXELS) -> RgbU8:
    """The picture as uint8 RGB (H, W, 3): EXIF rotation applied, alpha on white, first frame, ICC profiles ignored.

    16-bit values are divided by 257; floats are taken as 0 to 1 when they lie there, else as 0 to 255. The content
    decides the format, whatever the file is called. Raises `DecodeError`.
    """
    return np.array(_decoded(source, max_pixels))


def decode_resized(source: File | bytes, size: int | tuple[int, int], *, max_pixels: int = MAX_PIXELS) -> RgbU8:
    """`resize(decode(source), size)`, the same bytes, but sooner: the whole picture is never an array."""
    return _resized(_decoded(source, max_pixels), size)


def resize(rgb_u8: RgbU8, size: int | tuple[int, int]) -> RgbU8:
    """Squash (H, W, 3) to (S, S, 3) or (height, width, 3) by Pillow's antialiased bilinear filter: `RESIZE_RULE`."""
    return _resized(Image.fromarray(np.ascontiguousarray(rgb_u8)), size)


def _resized(image: Image.Image, size: int | tuple[int, int]) -> RgbU8:
    height, width = (size, size) if isinstance(size, int) else size
    return np.array(image.resize((width, height), Image.Resampling.BILINEAR))


def _decoded(source: File | bytes, max_pixels: int) -> Image.Image:
    data = source if isinstance(source, bytes) else read_bytes(source)
    if not data:
        raise DecodeError("empty file")
    try:
        with Image.open(io.BytesIO(data), formats=_FORMATS) as image:
            width, height = image.size
            if width * height > max_pixels:
                raise TooManyPixelsError(f"{width} x {height} pixels; at most {max_pixels:,} are decoded")
            image.load()
            # Asked after loading: some formats carry EXIF behind the pixels, and TIFF is turned while it loads.
            turn = _ORIENTATIONS.get(_orientation(image))
            rgb = _to_rgb(image)
    except DecodeError:
        raise
    except UnidentifiedImageError:
        raise UnknownFormatError(_what_it_is(data)) from None
    except Image.DecompressionBombError:
        raise TooManyPixelsError(f"more pixels than the {max_pixels:,} that are decoded") from None
    # Decoders meet files made to break them and raise what they like: whatever it is, this file has no picture.
    except Exception as error:
        raise DecodeError(f"broken: {' '.join(str(error).split()) or type(error).__name__}") from None
    return rgb if turn is None else rgb.transpose(turn)


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I;16"):
        return _grey(np.asarray(image).astype(np.uint16))
    if image.mode == "I":
        values = np.asarray(image)
        if values.min() < 0 or values.max() > 0xFFFF:
            raise DecodeError("32-bit integers beyond the 16-bit range have no agreed scale")
        return _grey(values)
    if image.mode == "F":
        return _grey(_from_float(np.asarray(image)))
    if image.has_transparency_data:
        # "La" and "RGBa" hold colours already multiplied by alpha
        rgba = image.convert({"La": "LA"}.get(image.mode, image.mode)).convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
    return image if image.mode == "RGB" else image.convert("RGB")  # which would copy it


def _grey(values_u16: NDArray[Any]) -> Image.Image:
    """Grey in the 16-bit range to RGB: v / 257 rounded, so that 8-bit values come back exact (65535 = 255 x 257)."""
    return Image.fromarray(((values_u16.astype(np.uint32) + 128) // 257).astype(np.uint8)).convert("RGB")


def _from_float(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Float grey in 0-1 or 0-255 to the 16-bit range."""
    low, high = values.min(), values.max()
    if not (low >= 0 and high <= 255):  # also true for NaN
        raise DecodeError("float pixels outside 0-255 have no agreed scale")
    scaled: NDArray[np.float32] = values * np.float32(65535 if high <= 1 else 257)
    return scaled.round()


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(_ORIENTATION_TAG, 1))
    except Exception:
        # A broken EXIF block does not spoil the picture; browsers show it unturned, too. Pillow raises what it meets
        # there: SyntaxError, struct.error, KeyError, TypeError among others.
        return 1


def _what_it_is(data: bytes) -> str:
    """A reason for bytes that no decoder knows, naming the usual cases."""
    head = data[:64].lstrip().lower()
    if head.startswith((b"<!doctype", b"<html")):
        return "not an image: an HTML page"
    if head.startswith((b"<?xml", b"<svg")):
        return "not an image: XML or SVG"
    if data[4:12] in (b"ftypheic", b"ftypheix", b"ftypmif1", b"ftypmsf1", b"ftyphevc"):
        return "HEIC is not decoded: convert it to JPEG or AVIF"
    return "not an image in a known format" if data.strip(b"\0") else "not an image: only zero bytes"
