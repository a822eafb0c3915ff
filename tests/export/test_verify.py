"""`figleaf export verify`: damage is told before anything is opened, and no list leads out of its folder."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from PIL import Image
from test_bundle import FACTS, network, pictures

from figleaf.cli import main
from figleaf.errors import FigleafError
from figleaf.export.bundle import export_bundle
from figleaf.export.hashes import SUMS, file_states, unlisted
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
    with pytest.raises(FigleafError, match=r"line 1 names .* which is no plain path inside the folder"):
        file_states(folder)


def test_links_out_of_the_folder_and_circles_of_them_are_told_and_not_followed(folder: Path) -> None:
    (folder.parent / "secret").write_text("secret")
    (folder / "model.onnx").unlink()
    (folder / "model.onnx").symlink_to(folder.parent / "secret")
    (folder / "model.pt2").unlink()
    (folder / "model.pt2").symlink_to("model.pt2")
    states = file_states(folder)
    assert states["model.onnx"] == "a link out of the folder"
    assert states["model.pt2"].startswith("cannot be read")
    (folder / SUMS).rename(folder.parent / "sums")
    (folder / SUMS).symlink_to(folder.parent / "sums")
    with pytest.raises(FigleafError, match="no such file, or no plain one"):
        file_states(folder)


def test_a_file_that_is_listed_twice_and_names_beyond_any_file_system(folder: Path) -> None:
    line = (folder / SUMS).read_text().splitlines()[0]
    (folder / SUMS).write_text(f"{'0' * 64}  {line[66:]}\n{line}\n")
    with pytest.raises(FigleafError, match=r"line 2 names .* again"):
        file_states(folder)
    (folder / SUMS).write_text(f"{'0' * 64}  {'x' * 300}\n")
    assert file_states(folder)["x" * 300].startswith("cannot be read: File name too long")


def test_linked_folders_are_among_what_is_not_listed(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (folder / "evil").symlink_to(tmp_path / "elsewhere")
    assert unlisted(folder, file_states(folder)) == ["evil"]


def rewrite(folder: Path, name: str, content: bytes) -> None:
    """Other content under its own hash, as by somebody who can write the list as well."""
    before = sha256_file(folder / name)
    (folder / name).write_bytes(content)
    (folder / SUMS).write_text((folder / SUMS).read_text().replace(before, sha256_file(folder / name)))


def test_shards_are_read_beside_their_model_only(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    written = json.loads((folder / "tfjs" / "model.json").read_text())
    (shard,) = written["weightsManifest"][0]["paths"]
    shutil.copy(folder / "tfjs" / shard, folder.parent / "outside.bin")
    written["weightsManifest"][0]["paths"] = ["../../outside.bin"]
    rewrite(folder, "tfjs/model.json", json.dumps(written).encode())
    code, report = verify(folder, capsys)
    assert (code, report["ok"]) == (1, False)
    assert "is no plain file name" in report["formats"]["tfjs"]["reason"]


def test_lossy_weights_that_are_not_finite_and_damaged_files_are_not_ok(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = onnx.load(folder / "model-float16.onnx")
    for initializer in model.graph.initializer:
        if initializer.data_type == onnx.TensorProto.FLOAT16:
            values = np.full_like(onnx.numpy_helper.to_array(initializer), np.nan)
            initializer.CopyFrom(onnx.numpy_helper.from_array(values, initializer.name))
    rewrite(folder, "model-float16.onnx", model.SerializeToString())
    rewrite(folder, "model.pt2", b"damaged")
    code, report = verify(folder, capsys, "--run-pt2")
    assert (code, report["ok"]) == (1, False)
    assert report["formats"]["onnx_float16"]["max_probability_diff"] is None
    assert "no program that figleaf exported" in report["formats"]["pt2"]["reason"]


@pytest.mark.parametrize(
    ("key", "value"),
    [("classes", "nojson"), ("classes", "3"), ("classes", '["a"]'), ("threshold", '"x"'), ("threshold", "NaN")],
)
def test_damaged_metadata_of_onnx_are_named(
    folder: Path, key: str, value: str, capsys: pytest.CaptureFixture[str]
) -> None:
    model = onnx.load(folder / "model.onnx")
    for entry in model.metadata_props:
        if entry.key == key:
            entry.value = value
    rewrite(folder, "model.onnx", model.SerializeToString())
    code, report = verify(folder, capsys)
    assert code == 1
    assert "its metadata is damaged" in report["formats"]["onnx"]["reason"]


def test_a_list_without_weights_is_not_ok(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = [line for line in (folder / SUMS).read_text().splitlines() if line.endswith("  model.json")]
    (folder / SUMS).write_text("\n".join(lines))
    code, report = verify(folder, capsys)
    assert (code, report["ok"], report["formats"]) == (1, False, {})


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
