import io
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFile, ImageOps

from bad_images import ORANGE, BadImage, plain, png, rotated_jpeg, saved, write_bad_corpus
from figleaf.data.decode import DecodeError, decode, decode_resized, resize


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> list[BadImage]:
    return write_bad_corpus(tmp_path_factory.mktemp("bad"))


def test_the_corpus_holds_many_kinds(corpus: list[BadImage]) -> None:
    assert len({image.kind for image in corpus if image.decodes}) >= 18
    assert len({image.kind for image in corpus if not image.decodes}) >= 15


def test_awkward_pictures_decode_to_the_right_size_and_colour(corpus: list[BadImage]) -> None:
    for image in (image for image in corpus if image.decodes):
        rgb_u8 = decode(image.path)
        assert rgb_u8.dtype == np.uint8
        assert rgb_u8.shape == (*image.size[::-1], 3), image.kind
        assert np.abs(rgb_u8[0, 0].astype(int) - image.rgb).max() <= 6, image.kind


def test_broken_pictures_give_a_reason(corpus: list[BadImage]) -> None:
    for image in (image for image in corpus if not image.decodes):
        with pytest.raises(DecodeError) as caught:
            decode(image.path)
        assert image.reason in caught.value.reason, image.kind
        assert "\n" not in caught.value.reason


def test_truncated_pictures_are_never_filled_up_with_grey() -> None:
    assert ImageFile.LOAD_TRUNCATED_IMAGES is False


@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_exif_rotation_agrees_with_pillows_own(orientation: int) -> None:
    data = rotated_jpeg(orientation)
    expected = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    np.testing.assert_array_equal(decode(data), np.asarray(expected))


@pytest.mark.parametrize("format", ["TIFF", "PNG", "WEBP"])
def test_exif_rotation_is_applied_once_in_every_format(format: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    assert decode(saved(plain(), format, exif=exif)).shape == (24, 16, 3)


def test_16_bit_values_are_scaled_not_clipped() -> None:
    ramp = np.linspace(0, 65535, 1000).round().astype(np.uint16)
    image = Image.fromarray(ramp[None])
    np.testing.assert_array_equal(decode(saved(image, "PNG"))[0, :, 0], np.rint(ramp / 257))


def test_the_size_limit_is_read_from_the_header() -> None:
    # no pixels follow: whoever tried to decode would say truncated
    with pytest.raises(DecodeError, match="12000 x 9000 pixels; at most 100,000,000"):
        decode(png(12_000, 9_000, 8, 2, b"\0"))
    with pytest.raises(DecodeError, match="at most 100 "):
        decode(saved(plain(), "PNG"), max_pixels=100)
    assert decode(saved(plain(), "PNG"), max_pixels=24 * 16).shape == (16, 24, 3)


def test_icc_profiles_change_nothing() -> None:
    from PIL import ImageCms

    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    np.testing.assert_array_equal(decode(saved(plain(), "PNG", icc_profile=profile))[0, 0], ORANGE)


def test_half_transparency_is_laid_on_white() -> None:
    data = saved(plain("RGBA", (0, 100, 200, 128)), "PNG")
    assert np.abs(decode(data)[0, 0].astype(int) - [127, 177, 227]).max() <= 1


def test_resize_squashes_and_averages_all_source_pixels() -> None:
    rng = np.random.default_rng(0)
    rgb_u8 = rng.integers(0, 256, (60, 90, 3), dtype=np.uint8)
    assert resize(rgb_u8, 20).shape == (20, 20, 3)
    assert resize(rgb_u8, (10, 30)).shape == (10, 30, 3)
    # antialiased: a dot between the sampling points is not lost
    dot = np.zeros((64, 64, 3), np.uint8)
    dot[32, 32] = 255
    assert resize(dot, 8).max() > 0
    np.testing.assert_array_equal(resize(rgb_u8[:20, :20], 20), rgb_u8[:20, :20])


def test_decoding_to_a_size_gives_the_bytes_of_decoding_and_resizing(corpus: list[BadImage]) -> None:
    for image in corpus:
        for size in (7, (5, 9)):
            if image.decodes:
                expected = resize(decode(image.path), size)
                np.testing.assert_array_equal(decode_resized(image.path, size), expected, image.path.name)
            else:
                with pytest.raises(DecodeError, match=re.escape(image.reason)):
                    decode_resized(image.path, size)


def test_decoding_needs_nothing_beyond_numpy_and_pillow() -> None:
    import subprocess
    import sys

    code = "import sys, figleaf.data.decode; assert not {'pandas', 'torch', 'scipy'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_what_decode_returns_may_be_written_to(tmp_path: Path) -> None:
    rgb_u8 = decode(saved(plain(), "PNG"))
    rgb_u8[0, 0] = 0
    resize(rgb_u8, 4)[0, 0] = 0
