import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image, ImageEnhance

from bad_images import saved, write_bad_corpus
from figleaf.data import commands
from figleaf.data.check import check
from figleaf.data.decode import decode
from figleaf.data.duplicates import Look, same_look
from figleaf.data.manifest import Manifest, sample_id
from figleaf.data.sources import scenes_manifest
from figleaf.data.view import Geometry
from figleaf.errors import FigleafError


def picture(seed: int, size: tuple[int, int] = (160, 120)) -> Image.Image:
    """A smooth picture with structure at many scales, like a photograph."""
    rng = np.random.default_rng(seed)
    total = np.zeros((size[1], size[0], 3))
    for cells in (3, 6, 12, 24):
        layer = Image.fromarray(rng.integers(0, 256, (cells, cells, 3), dtype=np.uint8))
        total += np.asarray(layer.resize(size, Image.Resampling.BICUBIC), float) / cells
    return Image.fromarray((255 * (total - total.min()) / np.ptp(total)).astype(np.uint8))


def write(root: Path, rows: list[tuple[str, Image.Image | bytes, str, str, str]]) -> Manifest:
    """Files of (name, picture, label, split, group)."""
    root.mkdir(parents=True, exist_ok=True)
    for name, image, *_ in rows:
        (root / name).write_bytes(image if isinstance(image, bytes) else saved(image, "PNG"))
    table = pd.DataFrame([(n, label, split, group) for n, _, label, split, group in rows])
    return Manifest.from_table(table.set_axis(["path", "label", "split", "group"], axis=1), root=root, name="test")


def cropped(image: Image.Image) -> Image.Image:
    return image.crop((2, 2, image.width - 2, image.height - 2))


EDITS: dict[str, Callable[[Image.Image], bytes]] = {
    "re-encoded": lambda image: saved(image, "JPEG", quality=40),
    "halved": lambda image: saved(image.resize((80, 60)), "PNG"),
    "brighter": lambda image: saved(ImageEnhance.Brightness(image).enhance(1.2), "PNG"),
    "grey": lambda image: saved(image.convert("L"), "PNG"),
    "cropped": lambda image: saved(cropped(image), "PNG"),
}


@pytest.mark.parametrize("edit", EDITS)
def test_an_edited_copy_is_a_near_duplicate(edit: str) -> None:
    originals = [picture(seed) for seed in range(20)]
    looks = [Look.of(np.asarray(image)) for image in originals]
    copies = [Look.of(decode(EDITS[edit](image))) for image in originals]
    assert same_look(looks + copies).tolist() == [*range(20), *range(20)]


def test_different_plain_pictures_are_no_duplicates() -> None:
    plain = [np.full((40, 40, 3), color, np.uint8) for color in ((250, 10, 10), (10, 250, 10), (128, 128, 128))]
    assert len({Look.of(rgb).phash for rgb in plain}) == 1  # the hash alone would say so
    assert same_look([Look.of(rgb) for rgb in plain]).tolist() == [0, 1, 2]
    assert same_look([Look.of(plain[0]), Look.of(decode(saved(Image.fromarray(plain[0]), "JPEG")))]).tolist() == [0, 0]


def test_clusters_agree_with_comparing_every_pair(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("figleaf.data.duplicates._BLOCK_PAIRS", 500)  # many small blocks
    rng = np.random.default_rng(0)
    thumbnail = np.asarray(picture(0).resize((16, 16)))
    seeds = rng.integers(0, 2**63, 12)
    flips = [int(sum(1 << int(bit) for bit in rng.choice(64, rng.integers(0, 6), replace=False))) for _ in range(120)]
    hashes = [int(seeds[i % 12]) ^ flips[i] for i in range(120)]
    found = same_look([Look(value, thumbnail) for value in hashes])
    parent = list(range(120))

    def root(i: int) -> int:
        return i if parent[i] == i else root(parent[i])

    for i in range(120):
        for j in range(i):
            if (hashes[i] ^ hashes[j]).bit_count() <= 6:
                parent[max(root(i), root(j))] = min(root(i), root(j))
    assert found.tolist() == [root(i) for i in range(120)]


def test_ten_thousand_pictures_that_differ_are_each_their_own() -> None:
    rng = np.random.default_rng(0)
    thumbnail = np.zeros((16, 16, 3), np.uint8)
    looks = [Look(int(value), thumbnail) for value in rng.integers(0, 2**63, 10_000)]
    assert len(set(same_look(looks))) == 10_000


def test_every_bad_file_is_listed_with_its_reason(tmp_path: Path) -> None:
    corpus = write_bad_corpus(tmp_path)
    ids = [sample_id(image.path.relative_to(tmp_path)) for image in corpus]
    table = pd.DataFrame({"path": ids, "label": "nsfw", "split": "train"})
    report = check(Manifest.from_table(table, root=tmp_path, name="bad"))
    assert [bad.path for bad in report.bad] == [
        name for name, image in zip(ids, corpus, strict=True) if not image.decodes
    ]
    reasons = [image.reason for image in corpus if not image.decodes]
    assert all(part in bad.reason for part, bad in zip(reasons, report.bad, strict=True))
    assert not report.clean


def test_leaks_and_contradictions_are_found_and_harmless_copies_are_none(tmp_path: Path) -> None:
    a, b, c, d = (picture(seed) for seed in range(4))
    m = write(
        tmp_path,
        [
            ("a.png", a, "sfw", "train", "g1"),
            ("a_copy.png", a, "sfw", "test", "g2"),  # exact leak
            ("b.png", b, "sfw", "val", "g3"),
            ("b_small.jpg", EDITS["re-encoded"](b), "sfw", "train", "g1"),  # near leak
            ("c.png", c, "sfw", "train", "g4"),
            ("c_copy.png", c, "nsfw", "train", "g4"),  # contradiction
            ("d.png", d, "nsfw", "test", "g5"),
            ("d_copy.png", d, "nsfw", "test", "g5"),  # harmless
            ("e.png", picture(9), "nsfw", "val", "g5"),  # group in two splits
        ],
    )
    report = check(m)
    assert [(x.kind, x.paths) for x in report.leaks] == [
        ("exact", ("a.png", "a_copy.png")),
        ("near", ("b.png", "b_small.jpg")),
    ]
    assert [x.paths for x in report.contradictions] == [("c.png", "c_copy.png")]
    assert [(x.group, x.splits) for x in report.group_leaks] == [("g5", {"val": 1, "test": 2})]
    assert len(report.clusters) == 4
    assert report.counts["train"] == {"nsfw": 1, "sfw": 3}
    assert report.groups == {"train": 2, "val": 2, "test": 2}
    assert not report.clean


def test_files_that_do_not_decode_are_no_duplicates_of_each_other(tmp_path: Path) -> None:
    rows = [("1.png", b"", "nsfw", "train", "a"), ("2.png", b"", "sfw", "test", "b")]
    rows += [("3.png", b"text", "nsfw", "train", "c"), ("4.png", b"text", "sfw", "test", "d")]
    report = check(write(tmp_path, rows))
    assert len(report.bad) == 4
    assert report.clusters == ()


def test_copies_within_a_split_and_label_leave_the_data_clean(tmp_path: Path) -> None:
    rows = [(f"{i}.png", picture(0), "nsfw", "train", "g") for i in range(3)]
    report = check(write(tmp_path, [*rows, ("x.png", picture(1), "sfw", "train", "h")]))
    assert [x.paths for x in report.clusters] == [("0.png", "1.png", "2.png")]
    assert report.clean


def test_masks_must_decode_and_fit(tmp_path: Path) -> None:
    m = write(tmp_path, [(f"{i}.png", picture(i), "nsfw", "train", f"g{i}") for i in range(3)])
    (tmp_path / "fits.png").write_bytes(saved(Image.new("L", (160, 120)), "PNG"))
    (tmp_path / "small.png").write_bytes(saved(Image.new("L", (16, 12)), "PNG"))
    report = check(m.with_table(m.table.assign(mask=["fits.png", "small.png", "gone.png"])))
    assert [bad.reason for bad in report.bad] == [
        "mask: 16 x 12 pixels, the picture has 160 x 120",
        "mask: no such file",
    ]


def test_scenes_are_clean(tmp_path: Path) -> None:
    assert check(scenes_manifest(tmp_path, count=120, seed=0, size=48)).clean


def test_the_command_prints_json_for_programs_and_text_for_people(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    m = write(
        tmp_path,
        [("[red]\x1b[31m\n<b>.png", b"text", "nsfw", "train", "g"), ("a.png", picture(0), "sfw", "train", "h")],
    )
    assert commands.check(m) == 1
    out, err = capsys.readouterr()
    found = json.loads(out)
    assert found["clean"] is False
    assert found["bad"][0]["reason"] == "not an image in a known format"
    assert "[red]\\x1b[31m\\n<b>.png (train): not an image" in err
    assert "\x1b[31m" not in err
    (tmp_path / m.table["path"][0]).write_bytes(saved(picture(1), "PNG"))
    assert commands.check(m) == 0


def test_the_command_says_how_often_augmentation_changes_labels(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    m = scenes_manifest(tmp_path, count=40, seed=0, size=48)
    commands.check(m, geometry=Geometry(48, reflect=True))
    unchanged = json.loads(capsys.readouterr().out)["augmentation"]
    assert unchanged["positive"]["left"] == unchanged["negative"]["flipped"] == 0
    commands.check(m, geometry=Geometry(48, scale_min=0.1))
    assert json.loads(capsys.readouterr().out)["augmentation"]["positive"]["left"] > 0
    with pytest.raises(FigleafError, match="mask for every sample"):
        commands.check(m.with_table(m.table.assign(mask="")), geometry=Geometry(48))


def test_many_classes_are_summed_up_in_the_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = pd.DataFrame({"path": [f"{i}.png" for i in range(100)], "label": [f"c{i // 2}" for i in range(100)]})
    m = Manifest.from_table(table.assign(split="train"), root=tmp_path, name="many", unsafe=())
    commands.check(m)
    assert "smallest of them" in capsys.readouterr().err


def test_index_cut_and_cache_as_commands(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from figleaf.data.manifest import load_manifest

    for label in ("nsfw", "sfw"):
        (tmp_path / "data" / label).mkdir(parents=True)
        for i in range(20):
            (tmp_path / "data" / label / f"{i}.png").write_bytes(saved(picture(i, (20, 20)), "PNG"))
    assert commands.index(tmp_path / "data", val_fraction=0.1, test_fraction=0.1) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["counts"]["train"] == {"nsfw": 16, "sfw": 16}
    m = load_manifest(found["manifest"])
    assert m.hash == found["hash"]
    with pytest.raises(FigleafError, match="exists"):
        commands.index(tmp_path / "data")

    out = tmp_path / "data" / "with_calib.csv"
    assert commands.cut(m, out, source="train", target="calib", fraction=0.25, seed=0) == 0
    assert json.loads(capsys.readouterr().out)["counts"]["calib"] == {"nsfw": 4, "sfw": 4}
    assert len(load_manifest(out).select("calib")) == 8

    (tmp_path / "data" / "sfw" / "0.png").write_bytes(b"")
    assert commands.cache(m, [16, 24], folder=tmp_path / "cache") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["errors"] == {"sfw/0.png": "empty file"}
    assert len(found["data_hash"]) == 64
