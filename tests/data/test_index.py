import logging
import os
from pathlib import Path

import pytest
from PIL import Image

from figleaf.data.decode import DecodeError, decode
from figleaf.data.index import find_images, index_folder
from figleaf.data.manifest import load_manifest, save_manifest
from figleaf.errors import FigleafError


def fill(folder: Path, n: int, prefix: str = "img") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for index in range(n):
        (folder / f"{prefix}{index:03d}.png").touch()


def classes(root: Path, n: int = 40) -> Path:
    fill(root / "sfw", n)
    fill(root / "nsfw", n)
    return root


def test_class_folders_are_cut_into_three_stratified_splits(tmp_path: Path) -> None:
    m = index_folder(classes(tmp_path), val_fraction=0.2, test_fraction=0.1, seed=1)
    counts = m.table.groupby(["split", "label"]).size().to_dict()
    expected = {"train": 28, "val": 8, "test": 4}
    assert counts == {(split, label): n for split, n in expected.items() for label in ("nsfw", "sfw")}
    assert (m.classes, m.unsafe, m.name) == (("nsfw", "sfw"), ("nsfw",), tmp_path.name)


@pytest.mark.parametrize("val", ["val", "valid", "validation", "Validation", "dev"])
def test_split_folders_are_kept_whatever_val_is_called(tmp_path: Path, val: str) -> None:
    for split, n in (("train", 10), (val, 3), ("test", 2)):
        classes(tmp_path / split, n)
    m = index_folder(tmp_path)
    assert m.table.groupby("split").size().to_dict() == {"test": 4, "train": 20, "val": 6}
    assert all(path.startswith(f"{val}/") for path in m.select("val").table["path"])


def test_a_missing_val_is_cut_from_train_and_test_is_left_alone(tmp_path: Path) -> None:
    classes(tmp_path / "train", 50)
    classes(tmp_path / "test", 10)
    m = index_folder(tmp_path, val_fraction=0.2)
    assert {split: len(m.select(split)) for split in m.splits} == {"train": 80, "val": 20, "test": 20}
    assert all(path.startswith("test/") for path in m.select("test").table["path"])


def test_a_folder_of_test_images_alone_stays_a_test_split(tmp_path: Path) -> None:
    classes(tmp_path / "test", 5)
    assert index_folder(tmp_path).splits == ("test",)


def test_a_fraction_of_zero_leaves_the_split_out(tmp_path: Path) -> None:
    assert index_folder(classes(tmp_path), val_fraction=0, test_fraction=0).splits == ("train",)


def test_groups_from_file_names_are_never_divided(tmp_path: Path) -> None:
    for group in range(30):
        fill(tmp_path / ("nsfw" if group % 2 else "sfw"), 5, f"video{group:02d}_")
    m = index_folder(tmp_path, group_pattern=r"^(video\d+)_", seed=0)
    assert m.table["group"].nunique() == 30
    assert (m.table.groupby("group")["split"].nunique() == 1).all()
    assert m.splits == ("train", "val", "test")


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        (r"^(video", "no regular expression"),
        (r"^img", "brackets"),
        (r"^(video)", "80 file names, such as 'img000.png'"),
    ],
)
def test_a_group_pattern_that_does_not_fit_is_refused(tmp_path: Path, pattern: str, message: str) -> None:
    with pytest.raises(FigleafError, match=message):
        index_folder(classes(tmp_path), group_pattern=pattern)


def test_images_in_deeper_folders_belong_to_the_class_above(tmp_path: Path) -> None:
    fill(tmp_path / "nsfw" / "2020" / "may", 3)
    fill(tmp_path / "sfw", 3)
    m = index_folder(tmp_path, val_fraction=0, test_fraction=0)
    assert m.table["path"][0] == "nsfw/2020/may/img000.png"
    assert m.table["label"].value_counts().to_dict() == {"nsfw": 3, "sfw": 3}


def test_hidden_files_and_other_files_are_left_out_and_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    classes(tmp_path, 3)
    (tmp_path / "sfw" / ".hidden.jpg").touch()
    (tmp_path / "sfw" / "._resource.jpg").touch()
    (tmp_path / "__MACOSX").mkdir()
    (tmp_path / "__MACOSX" / "a.jpg").touch()
    for name in ("notes.txt", "more.TXT", "labels.csv", "README"):
        (tmp_path / name).touch()
    with caplog.at_level(logging.WARNING):
        assert len(index_folder(tmp_path, val_fraction=0, test_fraction=0)) == 6
    assert "left out 3 hidden and 4 that are no images" in caplog.text
    assert ".txt 2" in caplog.text


def test_suffixes_count_in_either_case(tmp_path: Path) -> None:
    names = ["a.JPG", "b.jpeg", "c.Webp", "d.TIFF", "e.avif", "f.heic", "g.gif"]
    for name in names:
        (tmp_path / name).touch()
    assert [path.name for path in find_images(tmp_path).images] == names


def test_odd_names_are_indexed_saved_loaded_and_opened_again(tmp_path: Path) -> None:
    names = [
        b"two words.png",
        "größe 图.png".encode(),
        b"line\nbreak.png",
        b"<b>&.png",
        b'quote"comma,.png',
        b"latin-\xe9.png",
        b"\\xff.png",
    ]
    for label in (b"sfw", b"nsfw", b"caf\xe9"):
        folder = tmp_path / os.fsdecode(label)
        folder.mkdir()
        for name in names:
            Image.new("RGB", (4, 4)).save(folder / os.fsdecode(name), "PNG")
    m = index_folder(tmp_path, val_fraction=0, test_fraction=0)
    save_manifest(m, tmp_path / "manifest.csv")
    again = load_manifest(tmp_path / "manifest.csv")
    assert again.hash == m.hash
    assert {os.fsencode(path.name) for path in again.paths} == set(names)
    assert "caf\\xe9" in again.classes
    for path in again.paths:
        decode(path)


def test_links_are_followed_but_not_in_circles(tmp_path: Path) -> None:
    fill(tmp_path / "elsewhere", 4)
    root = classes(tmp_path / "data", 2)
    (root / "explicit").symlink_to(tmp_path / "elsewhere")
    (root / "sfw" / "again").symlink_to(root)
    m = index_folder(root, val_fraction=0, test_fraction=0)
    assert m.table["label"].value_counts().to_dict() == {"explicit": 4, "nsfw": 2, "sfw": 2}


def test_a_broken_link_is_a_row_that_cannot_be_read_not_a_lost_one(tmp_path: Path) -> None:
    classes(tmp_path, 2)
    (tmp_path / "sfw" / "zz.jpg").symlink_to(tmp_path / "gone.jpg")
    m = index_folder(tmp_path, val_fraction=0, test_fraction=0)
    assert m.table["path"].tolist()[-1] == "sfw/zz.jpg"
    with pytest.raises(DecodeError, match="broken link"):
        decode(m.paths[-1])


@pytest.mark.parametrize(
    ("folders", "message"),
    [
        (["train/sfw", "val/nsfw", "cats"], r"folders of splits \(train, val\) and others \(cats\)"),
        (["val/sfw", "valid/sfw"], "name the same split twice"),
        (["train"], "lie in no class folder"),
        (["."], "lie in no class folder, such as 'img000.png'"),
        (["cats", "dogs"], r"data\.unsafe"),
        ([], "holds no images"),
    ],
)
def test_folders_that_cannot_be_understood_say_why(tmp_path: Path, folders: list[str], message: str) -> None:
    for folder in folders:
        fill(tmp_path / folder, 2)
    with pytest.raises(FigleafError, match=message):
        index_folder(tmp_path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"val_fraction": 1.2}, r"val_fraction=1\.2: expected 0 <= x < 1"),
        ({"val_fraction": 0.5, "test_fraction": 0.5}, "nothing is left"),
    ],
)
def test_impossible_fractions_are_named(tmp_path: Path, options: dict[str, float], message: str) -> None:
    with pytest.raises(FigleafError, match=message):
        index_folder(classes(tmp_path), **options)  # type: ignore[arg-type]


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(FigleafError, match="no such folder"):
        index_folder(tmp_path / "gone")


def test_the_index_is_the_same_on_any_machine(tmp_path: Path) -> None:
    one, other = classes(tmp_path / "a", 30), classes(tmp_path / "b", 30)
    assert index_folder(one, seed=4).hash == index_folder(other, seed=4).hash != index_folder(one, seed=5).hash
