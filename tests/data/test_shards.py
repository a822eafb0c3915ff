"""Shards: the same samples as loose files, byte for byte, and nothing damaged or half-written is taken for whole."""

import hashlib
import io
import json
import os
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from filelock import FileLock
from PIL import Image

from bad_images import write_bad_corpus
from figleaf.cli import main
from figleaf.data import sharding
from figleaf.data.cache import data_hash, decode_cached
from figleaf.data.check import check
from figleaf.data.decode import DecodeError, decode, read_bytes
from figleaf.data.manifest import Manifest, load_manifest, sample_id, save_manifest
from figleaf.data.masks import decode_masks
from figleaf.data.shard import INDEX, samples_of
from figleaf.data.sharding import Shards, write_shards
from figleaf.data.splits import cut
from figleaf.errors import FigleafError

KB = 1000


def picture(path: Path, seed: int, size: tuple[int, int] = (20, 30)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    Image.fromarray(rng.integers(0, 256, (*size, 3), dtype=np.uint8)).save(path)


def manifest_of(root: Path, count: int = 10) -> Manifest:
    """Pictures of noise, every second with a mask, of two classes and groups of two."""
    rows = []
    for number in range(count):
        picture(root / f"{number}.png", number)
        mask = ""
        if number % 2:
            mask = f"skin/{number}.png"
            picture(root / mask, 100 + number)
        row = {"path": f"{number}.png", "label": "nsfw" if number % 3 else "sfw", "split": "train", "mask": mask}
        rows.append({**row, "group": str(number // 2), "source": f"camera {number % 4}"})
    return Manifest.from_table(pd.DataFrame(rows), root=root, name="noise")


def bytes_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@pytest.fixture
def manifest(tmp_path: Path) -> Manifest:
    return manifest_of(tmp_path / "pictures")


@pytest.fixture
def shards(manifest: Manifest, tmp_path: Path) -> Path:
    """Several small shards of `manifest`."""
    assert write_shards(manifest, tmp_path / "shards", shard_bytes=12 * KB).shards > 2
    return tmp_path / "shards"


def test_a_manifest_of_shards_is_the_same_data(manifest: Manifest, shards: Path, tmp_path: Path) -> None:
    found = load_manifest(shards / "manifest.csv")
    shutil.rmtree(manifest.root / "skin")  # nothing is read from where the pictures came from
    shutil.move(manifest.root, tmp_path / "away")
    loose = Manifest(manifest.table, tmp_path / "away", manifest.classes, manifest.unsafe, manifest.name)
    decoded = [decode_cached(m, 16, folder=tmp_path / m.root.name) for m in (loose, found)]
    assert (decoded[0].pixels == decoded[1].pixels).all()
    assert decoded[0].content_sha256 == decoded[1].content_sha256
    assert data_hash(loose, decoded[0].content_sha256) == data_hash(found, decoded[1].content_sha256)
    assert (found.name, found.classes, found.unsafe) == ("noise", ("nsfw", "sfw"), ("nsfw",))
    assert list(found.table["source"]) == list(manifest.table["source"])


def test_masks_come_along(manifest: Manifest, shards: Path, tmp_path: Path) -> None:
    loose, found = (
        decode_masks(m, 16, folder=tmp_path / f"cache{number}")
        for number, m in enumerate((manifest, load_manifest(shards / "manifest.csv")))
    )
    assert (loose.usable == found.usable).all()
    assert loose.usable.sum() == 5
    assert (loose.files.pixels == found.files.pixels).all()


@pytest.mark.slow
def test_training_from_shards_gives_the_same_weights(home: Path, tmp_path: Path) -> None:
    assert main(["data", "shard", "data=digits", "--out", str(tmp_path / "shards"), "--mb", "1"]) == 0
    weights = {}
    for place in (home / "data" / "digits" / "manifest.csv", tmp_path / "shards" / "manifest.csv"):
        of_run = home.with_name(place.parent.name)
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("FIGLEAF_HOME", str(of_run))
            data = ["data=manifest", f"data.manifest={place}"]
            assert main(["train", *data, "model=debug", "trainer.epochs=1", "trainer.intervals=0"]) == 0
        (best,) = of_run.glob("runs/*/checkpoints/best.safetensors")
        weights[best.parents[1].name, hashlib.sha256(best.read_bytes()).hexdigest()] = place
    assert len(weights) == 1  # one fingerprint of the run, which holds the data hash, and one file of weights


def test_odd_and_bad_files_have_their_row_and_their_reason(tmp_path: Path) -> None:
    corpus = write_bad_corpus(tmp_path / "bad")
    ids = [sample_id(bad.path.relative_to(tmp_path / "bad")) for bad in corpus]
    table = pd.DataFrame({"path": ids, "label": "nsfw", "split": "train"})
    loose = Manifest.from_table(table, root=tmp_path / "bad", name="bad")
    written = write_shards(loose, tmp_path / "shards", shard_bytes=20 * KB)
    found = load_manifest(written.manifest)
    assert written.samples == len(corpus)
    unreadable = dict(zip(ids, (reason(file) for file in loose.paths), strict=True))
    assert written.unreadable == {path: why for path, why in unreadable.items() if why}
    assert written.unreadable
    decoded = [decode_cached(m, 16, folder=tmp_path / m.root.name / "cache") for m in (loose, found)]
    assert decoded[0].errors == decoded[1].errors
    assert decoded[0].content_sha256 == decoded[1].content_sha256
    names: list[str] = []
    for shard in shard_files(written):
        with tarfile.open(shard) as archive:
            names += archive.getnames()
    assert all(name.isascii() and "/" not in name for name in names)


def test_only_pictures_suffixes_are_kept(tmp_path: Path) -> None:
    """Libraries that read shards choose by suffix what to do with a file; `webdataset` unpickles a .pyd."""
    names = ["a.pyd", "b.JPEG", "c.pickle", "d", "e.json", "f.x.webp"]
    for name in names:
        (tmp_path / name).write_bytes(b"some bytes")
    table = pd.DataFrame({"path": names, "label": "nsfw", "split": "train"})
    (shard,) = shard_files(write_shards(Manifest.from_table(table, root=tmp_path, name="x"), tmp_path / "shards"))
    with tarfile.open(shard) as archive:
        suffixes = [name.partition(".")[2] for name in archive.getnames()]
    assert suffixes[1::2] == ["bin", "jpeg", "bin", "bin", "bin", "webp"]


def shard_files(written: Shards) -> list[Path]:
    return sorted(written.manifest.parent.glob("shard-*.tar"))


def reason(file: object) -> str | None:
    try:
        read_bytes(file)  # type: ignore[arg-type]
    except DecodeError as error:
        return error.reason
    return None


def test_the_same_files_give_the_same_bytes(manifest: Manifest, shards: Path, tmp_path: Path) -> None:
    for path in manifest.root.glob("*.png"):
        os.utime(path, (1e9, 1e9))
    write_shards(manifest, tmp_path / "again", shard_bytes=12 * KB, workers=4)
    assert bytes_of(tmp_path / "again") == bytes_of(shards)
    write_shards(load_manifest(shards / "manifest.csv"), tmp_path / "of_shards", shard_bytes=12 * KB)
    assert bytes_of(tmp_path / "of_shards") == bytes_of(shards)


def test_the_index_counts_and_hashes(manifest: Manifest, shards: Path) -> None:
    said = json.loads((shards / INDEX).read_text())
    assert said["samples"] == len(manifest) == sum(entry["samples"] for entry in said["shards"])
    assert said["hash"] == manifest.hash
    for entry in said["shards"]:
        content = (shards / entry["name"]).read_bytes()
        assert (entry["bytes"], entry["sha256"]) == (len(content), hashlib.sha256(content).hexdigest())
        assert len(content) <= 12 * KB + tarfile.RECORDSIZE


def test_webdataset_reads_them(manifest: Manifest, shards: Path) -> None:
    webdataset = pytest.importorskip("webdataset")
    urls = [str(path) for path in sorted(shards.glob("shard-*.tar"))]
    found = list(webdataset.WebDataset(urls, shardshuffle=False))
    assert [json.loads(sample["json"])["path"] for sample in found] == list(manifest.table["path"])
    assert [sample["png"] for sample in found] == [read_bytes(path) for path in manifest.paths]
    assert ["mask.png" in sample for sample in found] == [mask is not None for mask in manifest.masks]
    first = json.loads(found[1]["json"])
    assert {key: first[key] for key in ("label", "split", "group", "slice")} == {
        "label": "nsfw", "split": "train", "group": "0", "slice": "all",
    }  # fmt: skip
    assert first["sha256"] == hashlib.sha256(found[1]["png"]).hexdigest()


def test_a_stopped_command_leaves_nothing_that_looks_whole_and_goes_on(
    manifest: Manifest, shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "stopped"
    written = sharding._write

    def stopped(plan: sharding._Plan, *rest: object) -> dict[str, object]:
        if plan.number == 2:
            raise KeyboardInterrupt
        return written(plan, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(sharding, "_write", stopped)
    with pytest.raises(KeyboardInterrupt):
        write_shards(manifest, out, shard_bytes=12 * KB)
    assert not (out / "manifest.csv").exists()
    assert not (out / INDEX).exists()
    shutil.copy(shards / "manifest.csv", out)  # even with a manifest there are no finished shards
    with pytest.raises(FigleafError, match="no finished shards"):
        load_manifest(out / "manifest.csv")
    (out / ".shard-00002-abc.tar").write_bytes(b"half")  # what a kill leaves
    (out / ".progress").open("a").write('{"identity": "half a li')
    monkeypatch.undo()
    assert write_shards(manifest, out, shard_bytes=12 * KB).reused == 2
    assert bytes_of(out) == bytes_of(shards)


def stopped_at_the_end(manifest: Manifest, out: Path) -> None:
    """All shards are written, and nothing that makes them a whole."""

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sharding, "_save_manifest", stop)
        with pytest.raises(KeyboardInterrupt):
            write_shards(manifest, out, shard_bytes=12 * KB)


def test_a_file_or_a_shard_that_changed_since_a_stop_is_written_anew(
    manifest: Manifest, shards: Path, tmp_path: Path
) -> None:
    out = tmp_path / "stopped"
    stopped_at_the_end(manifest, out)
    with (out / "shard-00001.tar").open("ab") as file:
        file.write(b"damage")
    os.utime(manifest.root / "0.png", (1e9, 1e9))
    written = write_shards(manifest, out, shard_bytes=12 * KB)
    assert written.reused == written.shards - 2
    assert bytes_of(out) == bytes_of(shards)


def test_a_manifest_that_changed_since_a_stop_is_what_is_written(manifest: Manifest, tmp_path: Path) -> None:
    out = tmp_path / "stopped"
    stopped_at_the_end(manifest, out)
    picture(manifest.root / "0.png", 7)
    fewer = manifest.with_table(manifest.table[:7].assign(slice="other"))
    written = write_shards(fewer, out, shard_bytes=12 * KB)
    assert written.reused == 0
    write_shards(fewer, tmp_path / "fresh", shard_bytes=12 * KB)
    assert bytes_of(out) == bytes_of(tmp_path / "fresh")


def test_a_folder_that_is_not_ours_is_left_alone(manifest: Manifest, shards: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "shard-00000.tar").write_bytes(b"mine")
    before = bytes_of(shards)
    for folder, told in ((tmp_path / "mine", "holds other files"), (shards, "holds finished shards")):
        with pytest.raises(FigleafError, match=told):
            write_shards(manifest, folder)
    assert bytes_of(tmp_path / "mine") == {"shard-00000.tar": b"mine"}
    assert bytes_of(shards) == before


def test_one_process_writes_a_folder(manifest: Manifest, tmp_path: Path) -> None:
    (tmp_path / "shards").mkdir()
    with FileLock(tmp_path / "shards" / ".lock"), pytest.raises(FigleafError, match="another process"):
        write_shards(manifest, tmp_path / "shards")


def test_a_cut_manifest_of_shards_still_finds_them(manifest: Manifest, shards: Path, tmp_path: Path) -> None:
    part = cut(load_manifest(shards / "manifest.csv"), target="val", fraction=0.4, seed=0)
    for name in ("elsewhere.csv", "elsewhere.parquet"):
        (tmp_path / "lists").mkdir(exist_ok=True)
        save_manifest(part, tmp_path / "lists" / name)
        found = load_manifest(tmp_path / "lists" / name)
        assert found.splits == ("train", "val")
        assert [read_bytes(file) for file in found.paths] == [read_bytes(file) for file in manifest.paths]


def test_the_check_of_shards_is_the_check_of_the_files(manifest: Manifest, shards: Path) -> None:
    assert check(load_manifest(shards / "manifest.csv")).to_dict() == check(manifest).to_dict()


def test_a_truncated_shard_is_refused_before_anything_is_read(shards: Path) -> None:
    last = sorted(shards.glob("shard-*.tar"))[-1]
    last.write_bytes(last.read_bytes()[:-512])
    with pytest.raises(FigleafError, match=rf"{last}: damaged: [\d,]+ bytes, shards.json speaks of"):
        load_manifest(shards / "manifest.csv")
    last.unlink()
    with pytest.raises(FigleafError, match=f"{last}: No such file or directory, though shards.json names it"):
        load_manifest(shards / "manifest.csv")


def test_a_flipped_bit_stops_the_run_and_is_named(shards: Path, tmp_path: Path) -> None:
    found = load_manifest(shards / "manifest.csv")
    member = found.paths[3]
    content = bytearray(member.shard.read_bytes())  # type: ignore[union-attr]
    content[member.offset + 50] ^= 1  # type: ignore[union-attr]
    member.shard.write_bytes(content)  # type: ignore[union-attr]
    with pytest.raises(FigleafError, match=r"damaged: 3\.png is not what the index says"):
        decode_cached(found, 16, folder=tmp_path / "cache")
    assert not list((tmp_path / "cache").glob("*.npy"))


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("shard-00000.tar", "../shard-00000.tar", "which is no shard of this folder"),
        ("shard-00000.tar", "/etc/passwd", "which is no shard of this folder"),
        ("shard-00000.tar", "shard-00001.tar", "twice"),
        ('"format_version": 1', '"format_version": 2', "this figleaf reads 1"),
        ('"samples"', '"sample"', "cannot be used"),
        ("{", "", "cannot be used"),
    ],
)
def test_an_index_that_leads_elsewhere_is_refused(shards: Path, old: str, new: str, told: str) -> None:
    index = shards / INDEX
    index.write_text(index.read_text().replace(old, new))
    with pytest.raises(FigleafError, match=told):
        load_manifest(shards / "manifest.csv")


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("shard-00000.tar", "../pictures/0.png", "has no shard"),
        ("shard-00000.tar", "shard-00099.tar", "this manifest is not of these shards"),
    ],
)
def test_a_manifest_of_other_shards_is_refused(shards: Path, old: str, new: str, told: str) -> None:
    path = shards / "manifest.csv"
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(FigleafError, match=told):
        load_manifest(path)


@pytest.mark.parametrize("place", ["", "12", "-1+5 " + "0" * 64, "! ", "1+2 xyz", "1+99999999999 " + "0" * 64])
def test_a_place_that_is_none_is_refused(shards: Path, place: str) -> None:
    found = load_manifest(shards / "manifest.csv")
    moved = found.with_table(found.table.assign(path_member=place))
    with pytest.raises(FigleafError, match="is said to lie at"):
        _ = moved.paths


def test_a_shard_cannot_name_a_place_outside(shards: Path, tmp_path: Path) -> None:
    found = load_manifest(shards / "manifest.csv")
    moved = found.with_table(found.table.assign(shard="../pictures/0.png"))
    with pytest.raises(FigleafError, match="which is no shard of this folder"):
        _ = moved.paths


def crafted(*members: tuple[str, bytes], said: str | None = None, link: bool = False) -> tarfile.TarFile:
    """A tar file with a shard's header and these members, opened."""
    buffer = io.BytesIO()
    header = {"FIGLEAF.samples": said or str(sum(name.endswith("json") for name, _ in members))}
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT, pax_headers=header) as archive:
        for name, content in members:
            member = tarfile.TarInfo(name)
            if link:
                member.type, member.linkname = tarfile.SYMTYPE, "/etc/passwd"
            else:
                member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return tarfile.open(fileobj=io.BytesIO(buffer.getvalue()))


def note(path: str, content: bytes = b"x", **more: object) -> bytes:
    return json.dumps({"path": path, "sha256": hashlib.sha256(content).hexdigest(), **more}).encode()


FIRST = ("000000000.json", note("a.png"))


@pytest.mark.parametrize(
    ("members", "told"),
    [
        ([("../000000000.json", note("a.png"))], "is no member of a shard"),
        ([("000000000.json", note("../a.png"))], "leads out of its folder"),
        ([("000000000.json", note("/etc/passwd"))], "leads out of its folder"),
        ([("000000000.json", b"[" * 100_000)], "is not JSON"),
        ([("000000000.json", b"{}")], "names no path"),
        ([("000000000.json", note("a.png", error=1))], "error=1"),
        ([("000000000.json", b" " * (1 << 20) + b"{}")], "has 1,048,578 bytes"),
        ([("000000000.png", b"x")], "belongs to no sample"),
        ([FIRST], "it ends after 0 of 1 samples"),
        ([FIRST, ("000000001.json", note("b.png"))], "the picture of 'a.png' is missing"),
        ([FIRST, ("000000000.png", b"x"), ("000000000.jpg", b"x")], "a second picture"),
        ([FIRST, ("000000000.png", b"x"), FIRST, ("000000000.png", b"x")], "stands behind"),
        ([FIRST, ("000000000.png", b"x"), ("000000001.json", note("a.png"))], "'a.png' is in it twice"),
    ],
)
def test_a_crafted_shard_is_refused(members: list[tuple[str, bytes]], told: str) -> None:
    with crafted(*members) as archive, pytest.raises(FigleafError, match=told):
        list(samples_of(archive, 1 << 20))


def test_a_link_in_a_shard_is_refused() -> None:
    with crafted(FIRST, link=True) as archive, pytest.raises(FigleafError, match="is no member of a shard"):
        list(samples_of(archive, 1 << 20))


def test_a_shard_that_ends_between_two_samples_is_not_whole() -> None:
    with crafted(FIRST, ("000000000.png", b"x"), said="2") as archive:
        samples = samples_of(archive, 1 << 20)
        assert next(samples).picture == b"x"
        with pytest.raises(FigleafError, match="it ends after 1 of 2 samples"):
            next(samples)


def test_a_picture_that_was_exchanged_is_an_error_of_its_own() -> None:
    with crafted(FIRST, ("000000000.png", b"y")) as archive:
        (sample,) = samples_of(archive, 1 << 20)
    assert sample.error is not None
    assert "damaged here" in sample.error


def test_the_command_tells_what_it_wrote(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    manifest = manifest_of(tmp_path / "pictures")
    save_manifest(manifest, tmp_path / "pictures" / "manifest.csv")
    (tmp_path / "pictures" / "4.png").unlink()
    arguments = ["data", "shard", str(tmp_path / "pictures" / "manifest.csv"), "--out", str(tmp_path / "shards")]
    assert main(arguments) == 0
    caught = capsys.readouterr()
    said = json.loads(caught.out)
    assert (said["samples"], said["shards"], said["hash"]) == (10, 1, manifest.hash)
    assert said["unreadable"] == {"4.png": "no such file"}
    assert "10 samples in 1 shard; " in caught.err
    assert decode(load_manifest(said["manifest"]).paths[0]).shape == (20, 30, 3)
    assert main(arguments) == 2
    assert "holds finished shards: name another folder, or remove this one" in capsys.readouterr().err
