"""`figleaf export verify`: damage is told before anything is opened, and no list leads out of its folder."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from test_bundle import FACTS, network, pictures

from figleaf.cli import main
from figleaf.errors import FigleafError
from figleaf.export.bundle import export_bundle
from figleaf.export.hashes import SUMS, file_states
from figleaf.export.odd_pictures import COUNT, SIZES, odd_pictures, odd_pictures_at
from figleaf.files import sha256_file

FORMATS = ["safetensors", "onnx", "onnx_float16", "pt2", "tfjs", "openvino"]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("export") / "best"
    export_bundle(network(), out=out, formats=FORMATS, facts=FACTS, pictures=pictures())
    return out


@pytest.fixture
def folder(written: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(written, tmp_path / "copy"))


def verify(folder: Path, capsys: pytest.CaptureFixture[str], *options: str) -> tuple[int, dict[str, Any]]:
    code = main(["export", "verify", str(folder), *options])
    return code, json.loads(capsys.readouterr().out)


def test_an_untouched_folder_answers_alike_in_every_runtime(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, report = verify(folder, capsys, "--run-pt2")
    assert (code, report["ok"], set(report["files"].values())) == (0, True, {"as written"})
    assert set(report["formats"]) == set(FORMATS)
    for name, found in report["formats"].items():
        assert found["images"] == COUNT
        assert found["allowed"] == (None if name in ("onnx_float16", "tfjs") else 1e-4)
    assert 0 < report["formats"]["onnx"]["max_probability_diff"] < 1e-4
    assert "pt2" not in verify(folder, capsys)[1]["formats"], "code is not run unless it is asked for"


def test_what_was_changed_cut_or_lost_is_told_and_nothing_is_opened(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = (folder / "model.onnx").read_bytes()
    (folder / "model.onnx").write_bytes(content[:100] + b"!" + content[101:])
    (folder / "model.safetensors").write_bytes(b"")
    (folder / "openvino" / "model.bin").unlink()
    (folder / "tfjs" / "model.json").unlink()
    (folder / "tfjs" / "model.json").mkdir()
    for options in ((), ("--hashes",)):
        code, report = verify(folder, capsys, *options)
        assert (code, report["ok"], "formats" in report) == (1, False, False)
        assert {name: state for name, state in report["files"].items() if state != "as written"} == {
            "model.onnx": "changed",
            "model.safetensors": "changed",
            "openvino/model.bin": "missing",
            "tfjs/model.json": "not a file",
        }


def test_files_that_nobody_listed_are_told_and_not_opened(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "model-int8.onnx").write_bytes(b"planted")
    (folder / "tfjs" / "more.bin").write_bytes(b"planted")
    code, report = verify(folder, capsys)
    assert (code, report["not_listed"]) == (0, ["model-int8.onnx", "tfjs/more.bin"])
    assert not {"onnx_int8", "tfjs"} & set(report["formats"])


def test_other_weights_under_a_new_hash_are_told_by_their_answers(
    folder: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    export_bundle(network(width=0.25), out=tmp_path / "b", formats=["onnx"], facts=FACTS, pictures=pictures())
    before = sha256_file(folder / "model.onnx")
    shutil.copy(tmp_path / "b" / "model.onnx", folder / "model.onnx")
    sums = folder / SUMS
    sums.write_text(sums.read_text().replace(before, sha256_file(folder / "model.onnx")))
    code, report = verify(folder, capsys)
    assert (code, report["ok"]) == (1, False)
    assert report["formats"]["onnx"]["max_probability_diff"] > 1e-4


@pytest.mark.parametrize("name", ["../secret", "/etc/hostname", "tfjs/../../secret", "a//b", "./model.onnx", r"..\x"])
def test_a_list_that_leads_out_of_the_folder_is_refused(folder: Path, name: str) -> None:
    (folder.parent / "secret").write_text("secret")
    (folder / SUMS).write_text(f"{'0' * 64}  {name}\n")
    with pytest.raises(FigleafError, match=r"line 1 names .* which leads out of the folder"):
        file_states(folder)


def test_links_out_of_the_folder_are_refused(folder: Path) -> None:
    (folder.parent / "secret").write_text("secret")
    (folder / "model.onnx").unlink()
    (folder / "model.onnx").symlink_to(folder.parent / "secret")
    with pytest.raises(FigleafError, match=r"names 'model\.onnx', which leads out"):
        file_states(folder)


@pytest.mark.parametrize("text", ["", "no hash\n", "\n" * 20_000, None])
def test_a_list_that_is_none_is_refused(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / SUMS).write_text(text)
    with pytest.raises(FigleafError, match=SUMS):
        file_states(tmp_path)


def test_the_odd_pictures_are_of_the_sizes_and_kinds_they_are_said_to_be(tmp_path: Path) -> None:
    found = odd_pictures()
    assert len({name for name, _ in found}) == COUNT == 64
    assert len(SIZES) == 20
    modes, orientations = set(), set()
    for (name, content), size in zip(found, [*SIZES, *[None] * (COUNT - len(SIZES))], strict=True):
        (tmp_path / name).write_bytes(content)
        with Image.open(tmp_path / name) as image:
            assert size in (None, image.size)
            modes.add((image.format, image.mode))
            orientations.add(image.getexif().get(0x0112))
    assert orientations == {None, *range(1, 9)}
    assert {
        ("JPEG", "CMYK"),
        ("JPEG", "L"),
        ("PNG", "L"),
        ("PNG", "I;16"),
        ("PNG", "P"),
        ("PNG", "RGBA"),
        ("WEBP", "RGB"),
    } <= modes
    assert odd_pictures_at(32).shape == (COUNT, 32, 32, 3)
    assert odd_pictures_at(32).std(axis=(1, 2, 3)).max() > 20
