import os
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from figleaf.data.manifest import Manifest, load_manifest, sample_id, sample_path, save_manifest
from figleaf.errors import FigleafError

AWKWARD = [
    "two words.jpg",
    "größe 图.jpg",
    "a\nb\r.jpg",
    "<b>&.jpg",
    "comma,\"quote'.jpg",
    "NA",
    " lead and trail ",
    "\\xff.jpg",
]


def table(**columns: list[str]) -> pd.DataFrame:
    rows = {"path": ["a.jpg", "b.jpg", "c.jpg"], "label": ["sfw", "nsfw", "sfw"], "split": ["train", "val", "train"]}
    return pd.DataFrame(rows | columns)


def manifest(root: Path = Path("/data"), **columns: list[str]) -> Manifest:
    return Manifest.from_table(table(**columns), root=root, name="test")


def test_group_defaults_to_the_path_and_slice_to_all() -> None:
    filled = manifest(group=["g", "", "g"]).table
    assert filled["group"].tolist() == ["g", "b.jpg", "g"]
    assert set(filled["slice"]) == {"all"}


def test_labels_index_the_classes_and_unsafe_follows_them() -> None:
    m = Manifest.from_table(table(), root=Path("/data"), name="test", classes=("sfw", "other", "nsfw"))
    assert m.labels.tolist() == [0, 2, 0]
    assert m.unsafe == ("nsfw",)
    assert m.is_unsafe.tolist() == [False, True, False]


def test_numbered_classes_are_ordered_by_value() -> None:
    m = Manifest.from_table(table(label=["10", "9", "2"]), root=Path("/data"), name="test", unsafe=())
    assert m.classes == ("2", "9", "10")


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_a_saved_manifest_comes_back_the_same_whatever_the_names(tmp_path: Path, suffix: str) -> None:
    n = len(AWKWARD)
    rows = pd.DataFrame({"path": AWKWARD, "label": ["007", "NA"] * (n // 2), "split": "test", "tone": "1"})
    original = Manifest.from_table(rows, root=tmp_path, name="odd", classes=("NA", "007"), unsafe=("NA",))
    save_manifest(original, tmp_path / f"m{suffix}")
    again = load_manifest(tmp_path / f"m{suffix}")
    pd.testing.assert_frame_equal(again.table, original.table, check_dtype=False)
    assert (again.classes, again.unsafe, again.name, again.root) == (("NA", "007"), ("NA",), "odd", tmp_path)
    assert again.hash == original.hash


def test_a_manifest_saved_elsewhere_remembers_where_its_images_are(tmp_path: Path) -> None:
    images = tmp_path / "my images"
    images.mkdir()
    save_manifest(manifest(images), tmp_path / "lists" / "m.csv")
    assert load_manifest(tmp_path / "lists" / "m.csv").paths[0].resolve() == images / "a.jpg"
    assert load_manifest(tmp_path / "lists" / "m.csv", root=tmp_path).paths[0] == tmp_path / "a.jpg"


def test_spreadsheet_byte_order_mark_is_no_part_of_the_first_column(tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_text("\ufeffpath,label,split\na.jpg,nsfw,test\n", encoding="utf-8")
    assert load_manifest(tmp_path / "m.csv").table["path"].tolist() == ["a.jpg"]


@given(st.binary(min_size=1, max_size=12).filter(lambda b: b"\0" not in b and b"/" not in b and b not in (b".", b"..")))
def test_every_file_name_has_an_id_that_leads_back_to_it(name: bytes) -> None:
    identity = sample_id(Path(os.fsdecode(name)))
    identity.encode("utf-8")  # fits any table
    assert os.fsencode(sample_path(identity)) == name


@given(st.sets(st.binary(min_size=1, max_size=6).filter(lambda b: b"\0" not in b and b"/" not in b), max_size=8))
def test_different_file_names_have_different_ids(names: set[bytes]) -> None:
    paths = {Path(os.fsdecode(name)) for name in names}
    assert len({sample_id(path) for path in paths}) == len(paths)


def test_the_hash_follows_rows_classes_and_unsafe_but_not_the_place(tmp_path: Path) -> None:
    m = manifest()
    assert m.hash == manifest(tmp_path).hash
    assert m.hash == Manifest.from_table(table(extra=["1", "2", "3"]), root=tmp_path, name="other").hash
    others = [
        manifest(split=["train", "val", "test"]),
        manifest(label=["sfw", "nsfw", "nsfw"]),
        manifest(group=["g", "g", "g"]),
        m.with_table(m.table.iloc[::-1]),
        Manifest.from_table(table(), root=tmp_path, name="test", classes=("sfw", "nsfw")),
        Manifest.from_table(table(), root=tmp_path, name="test", unsafe=("sfw",)),
    ]
    assert len({m.hash, *(other.hash for other in others)}) == len(others) + 1


def test_select_gives_one_split_in_order_from_row_zero() -> None:
    train = manifest().select("train")
    assert train.table["path"].tolist() == ["a.jpg", "c.jpg"]
    assert train.table.index.tolist() == [0, 1]
    assert train.classes == ("nsfw", "sfw")
    with pytest.raises(FigleafError, match="split=calib: test has train, val"):
        manifest().select("calib")


@pytest.mark.parametrize("path", ["/etc/passwd", "../secret.jpg", "a/../../b.jpg", ""])
def test_paths_that_leave_the_root_are_refused_with_the_way_out(path: str) -> None:
    with pytest.raises(FigleafError, match=r"row 2: path .* data\.root"):
        manifest(path=["a.jpg", path, "c.jpg"])


def test_masks_that_leave_the_root_are_refused() -> None:
    with pytest.raises(FigleafError, match="row 1"):
        manifest(mask=["../m.png", "", ""])


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"path": ["a.jpg", "a.jpg", "./a.jpg"]}, "several rows"),
        ({"label": ["sfw", "", "nsfw"]}, r"row 2 \(b.jpg\): the label is empty"),
        ({"split": ["train", "Validation", "test"]}, "call it 'val'"),
        ({"split": ["train", "Test", "val"]}, "call it 'test'"),
        ({"label": ["cat", "dog", "cat"]}, "data.unsafe"),
    ],
)
def test_a_wrong_row_is_named(columns: dict[str, list[str]], message: str) -> None:
    with pytest.raises(FigleafError, match=message):
        manifest(**columns)


@pytest.mark.parametrize("column", ["path", "label", "split"])
def test_a_missing_column_is_named(tmp_path: Path, column: str) -> None:
    table().drop(columns=column).to_csv(tmp_path / "m.csv", index=False)
    with pytest.raises(FigleafError, match=rf"m\.csv: column '{column}' is missing"):
        load_manifest(tmp_path / "m.csv")


def test_unknown_labels_and_unsafe_classes_are_named() -> None:
    with pytest.raises(FigleafError, match="'sfw' is not among"):
        Manifest.from_table(table(), root=Path("/d"), name="t", classes=("nsfw",))
    with pytest.raises(FigleafError, match="'porn' is not among"):
        Manifest.from_table(table(), root=Path("/d"), name="t", unsafe=("porn",))


def test_files_that_are_no_manifest_are_named(tmp_path: Path) -> None:
    (tmp_path / "m.parquet").write_bytes(b"no parquet")
    (tmp_path / "latin.csv").write_bytes(b"path,label,split\n\xff.jpg,nsfw,test\n")
    (tmp_path / "empty.csv").write_bytes(b"")
    (tmp_path / "no_rows.csv").write_bytes(b"path,label,split\n")
    for name, message in [
        ("m.parquet", "cannot be read"),
        ("latin.csv", "cannot be read"),
        ("empty.csv", "cannot be read"),
        ("no_rows.csv", "it has no rows"),
        ("gone.csv", "figleaf data index"),
    ]:
        with pytest.raises(FigleafError, match=message):
            load_manifest(tmp_path / name)


def test_a_root_that_is_not_there_is_named_and_not_the_pictures(tmp_path: Path) -> None:
    save_manifest(manifest(tmp_path), tmp_path / "m.csv")
    with pytest.raises(FigleafError, match=r"data\.root=.*gone: no such folder"):
        load_manifest(tmp_path / "m.csv", root=tmp_path / "gone")


def test_a_note_with_an_unknown_key_is_refused(tmp_path: Path) -> None:
    save_manifest(manifest(tmp_path), tmp_path / "m.csv")
    (tmp_path / "m.csv.json").write_text('{"clases": ["a"]}')
    with pytest.raises(FigleafError, match="unknown key 'clases'"):
        load_manifest(tmp_path / "m.csv")


@pytest.mark.parametrize(
    ("note", "told"),
    [
        ("[]", "expected an object"),
        ('{"classes": 1}', "classes=1: expected a list of texts"),
        ('{"classes": [1, 2]}', "expected a list of texts"),
        ('{"unsafe": "nsfw"}', "unsafe='nsfw': expected a list of texts"),
        ('{"name": 5}', "name=5: expected a text"),
        ('{"root": 5}', "root=5: expected a text"),
        ("{", "not JSON"),
    ],
)
def test_a_note_of_another_shape_is_refused(tmp_path: Path, note: str, told: str) -> None:
    save_manifest(manifest(tmp_path), tmp_path / "m.csv")
    (tmp_path / "m.csv.json").write_text(note)
    with pytest.raises(FigleafError, match=rf"m\.csv\.json: .*{told}"):
        load_manifest(tmp_path / "m.csv")


def test_the_skin_area_manifest_loads(shared: Path) -> None:
    m = load_manifest(shared / "data/skin_area/manifest.csv", unsafe=("large_skin",), name="skin-area proxy")
    assert len(m) == 4822
    assert len(m.select("test")) == 684
    assert m.select("test").table["group"].nunique() == 135
    assert int((~m.select("test").is_unsafe).sum()) == 373
    assert all(mask and mask.exists() for mask in m.masks[:5])


def test_another_column_may_be_what_slices_are_made_of(tmp_path: Path) -> None:
    table = pd.DataFrame({"path": ["a", "b"], "label": "sfw", "split": "test", "slice": "s", "tone": ["dark", None]})
    manifest = Manifest.from_table(table, root=tmp_path, name="made", unsafe=())
    sliced = manifest.sliced_by("tone")
    assert sliced.table["slice"].tolist() == ["dark", "all"]
    assert sliced.hash != manifest.hash
    with pytest.raises(FigleafError, match=r"data\.slice_by=skin: made has the columns path, label, .*tone"):
        manifest.sliced_by("skin")
