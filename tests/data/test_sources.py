import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from figleaf.data import scenes, sources
from figleaf.data.decode import decode
from figleaf.data.manifest import Manifest
from figleaf.data.sources import digits_manifest, scenes_manifest
from figleaf.errors import FigleafError

COUNT, SIZE = 40, 48


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="module")
def drawn(folder: Path) -> Manifest:
    return scenes_manifest(folder, count=COUNT, seed=3, size=SIZE)


def test_digits_are_1797_pictures_in_three_stratified_splits(folder: Path) -> None:
    m = digits_manifest(folder)
    assert len(m) == 1797
    assert m.splits == ("train", "val", "test")
    assert m.unsafe == ("5", "6", "7", "8", "9")
    for split, share in {"train": 0.6, "val": 0.2, "test": 0.2}.items():
        counts = m.select(split).table["label"].value_counts()
        assert len(counts) == 10
        assert len(m.select(split)) == pytest.approx(share * 1797, abs=2)
    assert decode(m.paths[0]).shape == (32, 32, 3)


def test_scenes_on_disk_are_the_scenes_rendered(drawn: Manifest) -> None:
    assert len(drawn) == COUNT
    assert (drawn.classes, drawn.unsafe) == (scenes.CLASSES, scenes.UNSAFE)
    for index in (0, 7, COUNT - 1):
        scene = scenes.render(3, index, SIZE)
        row = drawn.table.iloc[index]
        np.testing.assert_array_equal(decode(drawn.paths[index]), scene.rgb_u8)
        mask = drawn.masks[index]
        assert mask is not None
        np.testing.assert_array_equal(decode(mask)[..., 0] == 255, scene.skin_mask)
        np.testing.assert_array_equal(decode(drawn.root / row["figure_mask"])[..., 0] == 255, scene.figure_mask)
        assert row[["label", "split", "group", "slice"]].tolist() == [
            scene.label,
            scene.split,
            scene.group,
            scene.slice,
        ]
        assert {key: row[key] for key in scene.attributes} == {key: str(x) for key, x in scene.attributes.items()}


def test_joints_stand_beside_the_scenes_in_the_order_of_the_rows(drawn: Manifest) -> None:
    figures = np.load(drawn.root / "figures.npz")
    assert figures["joints"].shape == (COUNT, 3, len(scenes.JOINTS), 2)
    assert figures["visible"].shape == (COUNT, 3, len(scenes.SEGMENTS))
    present = ~np.isnan(figures["joints"]).any(axis=(2, 3))
    assert present.sum(axis=1).tolist() == [int(count) for count in drawn.table["count"]]
    index = int(present.sum(axis=1).argmax())
    expected = scenes.render(3, index, SIZE).joints
    np.testing.assert_allclose(figures["joints"][index, : len(expected)], expected, rtol=1e-6)


def test_groups_of_scenes_stay_in_one_split(drawn: Manifest) -> None:
    assert (drawn.table.groupby("group")["split"].nunique() == 1).all()


def test_scenes_are_drawn_once(drawn: Manifest, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources.scenes, "render", None)
    assert scenes_manifest(folder, count=COUNT, seed=3, size=SIZE).hash == drawn.hash


def test_other_counts_seeds_and_sizes_are_other_sets(drawn: Manifest, folder: Path) -> None:
    for options in ({"count": 8, "seed": 3, "size": SIZE}, {"count": 8, "seed": 4, "size": 40}):
        assert scenes_manifest(folder, **options).root != drawn.root


def test_a_change_of_the_renderer_draws_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = scenes_manifest(tmp_path, count=8, seed=0, size=32)
    changed: Callable[[Path], str] = lambda package: "another"  # noqa: E731
    monkeypatch.setattr(sources, "_source_hash", changed)
    assert scenes_manifest(tmp_path, count=8, seed=0, size=32).root != before.root


def test_a_set_that_was_interrupted_is_written_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    render = scenes.render

    def killed(seed: int, index: int, size: int) -> scenes.Scene:
        if index == 5:
            raise KeyboardInterrupt
        return render(seed, index, size)

    monkeypatch.setattr(sources.scenes, "render", killed)
    with pytest.raises(KeyboardInterrupt):
        scenes_manifest(tmp_path, count=8, seed=0, size=32)
    assert [path.suffix for path in tmp_path.iterdir()] == [".lock"]
    monkeypatch.undo()
    assert len(scenes_manifest(tmp_path, count=8, seed=0, size=32)) == 8


def test_the_note_beside_the_table_says_what_is_unsafe(drawn: Manifest) -> None:
    note = json.loads((drawn.root / "manifest.csv.json").read_text())
    assert note == {"name": "scenes", "classes": ["covered", "exposed"], "unsafe": ["exposed"]}


def test_a_home_that_cannot_be_written_is_a_clear_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def read_only(*_: object, **__: object) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(Path, "mkdir", read_only)
    with pytest.raises(FigleafError, match=r"read-only.*FIGLEAF_HOME"):
        digits_manifest(tmp_path)
