"""A folder of awkward and broken pictures, each with what must become of it: which colour, or which reason."""

import os
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image

ORANGE = (250, 120, 40)
WHITE = (255, 255, 255)
SIZE = (24, 16)  # width, height


@dataclass(frozen=True)
class BadImage:
    """One file: what is wrong with it, and what `decode` must make of it.

    When it decodes: `rgb`, the colour at the top left, and `size` (width, height). When not: a part of the `reason`.
    """

    path: Path
    kind: str
    decodes: bool
    rgb: tuple[int, int, int] | None = None
    size: tuple[int, int] = SIZE
    reason: str = ""


def write_bad_corpus(folder: Path) -> list[BadImage]:
    """Write the corpus into `folder` (made when missing). One listed file is not there, one is a folder, one a pipe."""
    folder.mkdir(parents=True, exist_ok=True)
    return [
        *(_written(folder, name, kind, make, rgb, size) for name, kind, make, rgb, size in _good()),
        *_odd_names(folder),
        *(_broken(folder, name, kind, data, reason) for name, kind, data, reason in _undecodable()),
        *_no_files(folder),
    ]


def _written(
    folder: Path, name: str, kind: str, make: Callable[[], bytes], rgb: tuple[int, int, int], size: tuple[int, int]
) -> BadImage:
    (folder / name).write_bytes(make())
    return BadImage(folder / name, kind, True, rgb, size)


def _broken(folder: Path, name: str, kind: str, data: bytes, reason: str) -> BadImage:
    (folder / name).write_bytes(data)
    return BadImage(folder / name, kind, False, reason=reason)


def plain(mode: str = "RGB", color: object = ORANGE, size: tuple[int, int] = SIZE) -> Image.Image:
    return Image.new(mode, size, color)  # type: ignore[arg-type]


def saved(image: Image.Image, format: str, **options: object) -> bytes:
    buffer = BytesIO()
    image.save(buffer, format, **options)  # type: ignore[arg-type]
    return buffer.getvalue()


def png(width: int, height: int, bit_depth: int, color_type: int, rows: bytes, *extra: tuple[bytes, bytes]) -> bytes:
    """A PNG file written by hand; `rows` are the filtered scan lines, `extra` chunks that stand before them."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, bit_depth, color_type, 0, 0, 0)
    chunks = [(b"IHDR", header), *extra, (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(name, data) for name, data in chunks)


def rotated_jpeg(orientation: int) -> bytes:
    """Top left quarter orange, the rest white, as the camera stored it; a viewer that obeys turns it."""
    image = plain(color=WHITE, size=(32, 16))
    image.paste(ORANGE, (0, 0, 16, 8))
    exif = Image.Exif()
    exif[0x0112] = orientation
    return saved(image, "JPEG", exif=exif, quality=95, subsampling=0)


def _rgb16() -> bytes:
    value = b"".join(struct.pack(">H", channel * 257) for channel in ORANGE)
    return png(*SIZE, 16, 2, (b"\0" + value * SIZE[0]) * SIZE[1])


def _palette_alpha() -> bytes:
    image = plain("P", 1)
    image.putpalette([0, 0, 0, *ORANGE])
    return saved(image, "PNG", transparency=bytes([255, 0]))


def _animated(format: str) -> bytes:
    return saved(plain(), format, save_all=True, append_images=[plain(color="blue"), plain(color="green")], duration=50)


def _broken_exif() -> bytes:
    return saved(plain(), "JPEG", exif=b"Exif\0\0MM\0*\0\0\0\x08\xff\xff" + b"\xde\xad" * 20)


def _good() -> list[tuple[str, str, Callable[[], bytes], tuple[int, int, int], tuple[int, int]]]:
    half = (100, 100, 100)
    return [
        ("exif.jpg", "EXIF rotation", lambda: rotated_jpeg(6), WHITE, (16, 32)),
        ("broken_exif.jpg", "broken EXIF", _broken_exif, ORANGE, SIZE),
        ("cmyk.jpg", "CMYK, Adobe inverted", lambda: saved(plain().convert("CMYK"), "JPEG", quality=95), ORANGE, SIZE),
        ("cmyk.tif", "CMYK", lambda: saved(plain().convert("CMYK"), "TIFF"), ORANGE, SIZE),
        ("grey.jpg", "greyscale", lambda: saved(plain("L", 100), "JPEG"), half, SIZE),
        ("grey_alpha.png", "greyscale with alpha", lambda: saved(plain("LA", (0, 0)), "PNG"), WHITE, SIZE),
        ("rgba.png", "alpha", lambda: saved(plain("RGBA", (0, 0, 0, 51)), "PNG"), (204, 204, 204), SIZE),
        (
            "palette.gif",
            "palette",
            lambda: saved(plain().convert("P", palette=Image.Palette.ADAPTIVE), "GIF"),
            ORANGE,
            SIZE,
        ),
        ("palette_alpha.png", "palette with transparency", _palette_alpha, WHITE, SIZE),
        ("clear.gif", "transparent palette entry", lambda: saved(plain("P", 3), "GIF", transparency=3), WHITE, SIZE),
        ("clear_rgb.png", "transparent colour", lambda: saved(plain(), "PNG", transparency=ORANGE), WHITE, SIZE),
        ("grey16.png", "16-bit greyscale", lambda: saved(plain("I;16", 100 * 257), "PNG"), half, SIZE),
        ("rgb16.png", "16-bit RGB", _rgb16, ORANGE, SIZE),
        ("float.tif", "float 0-1", lambda: saved(plain("F", 100 / 255), "TIFF"), half, SIZE),
        ("float255.tif", "float 0-255", lambda: saved(plain("F", 100.0), "TIFF"), half, SIZE),
        ("int32.tif", "32-bit integers", lambda: saved(plain("I", 100 * 257), "TIFF"), half, SIZE),
        ("bit.png", "one bit", lambda: saved(plain("1", 1), "PNG"), WHITE, SIZE),
        ("moving.gif", "animated GIF", lambda: _animated("GIF"), ORANGE, SIZE),
        ("moving.webp", "animated WebP", lambda: _animated("WEBP"), ORANGE, SIZE),
        ("moving.png", "animated PNG", lambda: _animated("PNG"), ORANGE, SIZE),
        ("moving.mpo.jpg", "multi-picture JPEG", lambda: _animated("MPO"), ORANGE, SIZE),
        ("new.avif", "AVIF", lambda: saved(plain(), "AVIF", quality=95), ORANGE, SIZE),
        ("new.jp2", "JPEG 2000", lambda: saved(plain(size=(64, 64)), "JPEG2000"), ORANGE, (64, 64)),
        ("really_a_png.jpg", "mislabelled", lambda: saved(plain(), "PNG"), ORANGE, SIZE),
        ("dot.png", "one pixel", lambda: saved(plain(size=(1, 1)), "PNG"), ORANGE, (1, 1)),
        ("line.png", "very long", lambda: saved(plain(size=(3000, 1)), "PNG"), ORANGE, (3000, 1)),
    ]


def _odd_names(folder: Path) -> list[BadImage]:
    found = []
    for name in (
        "two words.png",
        "größe 图.png",
        "line\nbreak\r.png",
        "<b>&amp;.png",
        "comma,\"quote'.png",
        "back\\xff.png",
        "[red].png",
    ):
        (folder / name).write_bytes(saved(plain(), "PNG"))
        found.append(BadImage(folder / name, "odd name", True, ORANGE))
    raw = folder / os.fsdecode(b"latin-\xe9.png")
    try:
        raw.write_bytes(saved(plain(), "PNG"))
    except OSError:  # some file systems take UTF-8 only
        return found
    return [*found, BadImage(raw, "name that is no UTF-8", True, ORANGE)]


def _undecodable() -> list[tuple[str, str, bytes, str]]:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8))
    jpeg, whole_png = saved(noise, "JPEG"), saved(noise, "PNG")
    flipped = bytearray(whole_png)
    flipped[len(flipped) // 2] ^= 0xFF
    nan = saved(Image.fromarray(np.full((4, 4), np.nan, np.float32)), "TIFF")
    text_bomb = (b"zTXt", b"Comment\0\0" + zlib.compress(bytes(64 << 20), 9))
    return [
        ("truncated.jpg", "truncated JPEG", jpeg[: len(jpeg) // 2], "truncated"),
        ("truncated.png", "truncated PNG", whole_png[: len(whole_png) // 2], "truncated"),
        ("truncated.webp", "truncated WebP", (w := saved(noise, "WEBP"))[: len(w) // 2], ""),
        ("truncated.gif", "truncated GIF", (g := saved(noise, "GIF"))[: len(g) // 2], "truncated"),
        ("flipped.png", "damaged PNG", bytes(flipped), "broken"),
        ("header_only.jpg", "header without pixels", jpeg[:200], ""),
        ("empty.jpg", "empty", b"", "empty"),
        ("zeros.jpg", "only zero bytes", bytes(5000), "zero bytes"),
        ("text.jpg", "text", b"I am not a picture.\n" * 10, "not an image"),
        ("page.jpg", "HTML page", b"\n<!DOCTYPE html><html><body>404</body></html>", "HTML"),
        ("drawing.png", "SVG", b"<svg xmlns='http://www.w3.org/2000/svg'/>", "SVG"),
        ("phone.jpg", "HEIC", b"\0\0\0\x18ftypheic" + bytes(100), "HEIC"),
        ("bomb.png", "pixel bomb", png(60_000, 60_000, 8, 2, b"\0"), "pixels"),
        ("bomb.gif", "pixel bomb GIF", b"GIF89a\x60\xea\x60\xea\0\0\0,\0\0\0\0\x60\xea\x60\xea\0\x02\0;", "pixels"),
        (
            "text_bomb.png",
            "bomb in a text chunk",
            png(*SIZE, 8, 0, (b"\0" + bytes(SIZE[0])) * SIZE[1], text_bomb),
            "too large",
        ),
        ("nan.tif", "float NaN", nan, "float"),
        ("scene.eps", "PostScript", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n", "not an image"),
    ]


def _no_files(folder: Path) -> list[BadImage]:
    (folder / "folder.jpg").mkdir(exist_ok=True)
    link = folder / "broken_link.jpg"
    if not link.is_symlink():
        link.symlink_to(folder / "nowhere.jpg")
    loop = folder / "loop.jpg"
    if not loop.is_symlink():
        loop.symlink_to(loop)
    pipe = folder / "pipe.jpg"
    if not pipe.exists():
        os.mkfifo(pipe)
    found = [
        BadImage(folder / "missing.jpg", "missing", False, reason="no such file"),
        BadImage(folder / "folder.jpg", "folder", False, reason="folder"),
        BadImage(link, "broken link", False, reason="broken link"),
        BadImage(loop, "link to itself", False, reason="leads to itself"),
        BadImage(pipe, "named pipe", False, reason="not a regular file"),
    ]
    if os.geteuid() == 0:  # nothing is forbidden to root
        return found
    forbidden = folder / "forbidden.png"
    forbidden.write_bytes(saved(plain(), "PNG"))
    forbidden.chmod(0)
    return [*found, BadImage(forbidden, "no permission", False, reason="permission")]
