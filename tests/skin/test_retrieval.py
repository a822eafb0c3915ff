"""An index: what it finds, what its approximate search misses, what its folder holds, and what it refuses to read."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from figleaf.data.cache import decode_cached
from figleaf.data.manifest import Manifest
from figleaf.errors import FigleafError
from figleaf.skin import neighbours
from figleaf.skin.answers import Tile, blurred, draw_answers
from figleaf.skin.neighbours import NearestGraph, exact, recall
from figleaf.skin.retrieval import FEATURES, ImageIndex, build
from figleaf.skin.retrieval_files import load_index, save_index
from figleaf.vgg.network import VGG
from figleaf.vgg.weights import save

COLORS = [(200, 30, 30), (30, 200, 30), (30, 30, 200), (220, 220, 40)]


@pytest.fixture
def manifest(tmp_path: Path) -> Manifest:
    """Sixteen pictures of four colours, one file that is none, and a name made to hurt."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    rows = []
    for number in range(16):
        name = "<img src=x>\n.png" if number == 5 else f"{number}.png"
        rng = np.random.default_rng(number)
        rgb_u8 = np.clip(np.array(COLORS[number % 4]) + rng.integers(-20, 20, (24, 32, 3)), 0, 255).astype(np.uint8)
        Image.fromarray(rgb_u8).save(folder / name)
        rows.append({"path": name, "label": f"color{number % 4}", "split": "train", "group": f"g{number // 8}"})
    (folder / "broken.png").write_bytes(b"no picture")
    rows.append({"path": "broken.png", "label": "color0", "split": "train", "group": "g9"})
    return Manifest.from_table(pd.DataFrame(rows), root=folder, name="colors", unsafe=())


def indexed(manifest: Manifest, tmp_path: Path, features: str = "histogram", **parameters: object) -> ImageIndex:
    size = FEATURES[features](**parameters).size
    pictures = decode_cached(manifest, size, folder=tmp_path / "cache")
    return build(manifest, pictures, features, parameters, data_hash="abc")


@pytest.fixture
def index(manifest: Manifest, tmp_path: Path) -> ImageIndex:
    return indexed(manifest, tmp_path)


@pytest.fixture
def network(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    net = VGG(depth=11, width=0.05, input_size=32, classes=3)
    return save(net, tmp_path / "net.safetensors", {"classes": ["a", "b", "c"], "unsafe": []})


@pytest.mark.parametrize("k", [1, 7, 400])
def test_exact_search_is_a_sort_of_all_distances(k: int) -> None:
    rng = np.random.default_rng(0)
    codes, query = rng.normal(3, 1, (300, 20)).astype(np.float32), rng.normal(3, 1, 20).astype(np.float32)
    rows, distances = exact(codes, query, k)
    all_distances = np.linalg.norm(codes.astype(np.float64) - query, axis=1)
    np.testing.assert_array_equal(rows, np.argsort(all_distances, kind="stable")[:k])
    np.testing.assert_allclose(distances, np.sort(all_distances)[:k])


def test_equal_codes_come_in_the_order_of_their_rows() -> None:
    rows, distances = exact(np.ones((50, 4), np.float32), np.ones(4), 3)
    assert rows.tolist() == [0, 1, 2]
    assert not distances.any()


def test_approximate_search_finds_nearly_all_and_the_same_each_time() -> None:
    rng = np.random.default_rng(0)
    codes = rng.normal(0, 1, (3000, 24)).astype(np.float32)
    queries = rng.normal(0, 1, (40, 24)).astype(np.float32)
    graphs = [NearestGraph.build(codes) for _ in range(2)]
    found = [[graph.search(codes, query, 10)[0].tolist() for query in queries] for graph in graphs]
    assert found[0] == found[1]
    shares = [recall(np.array(f), exact(codes, q, 10)[0]) for f, q in zip(found[0], queries, strict=True)]
    assert np.mean(shares) > 0.97


def test_recall_is_the_share_that_was_found() -> None:
    assert recall(np.array([3, 1, 9]), np.array([1, 2, 3, 4])) == 0.5


def test_what_is_like_the_query_is_found(index: ImageIndex, manifest: Manifest) -> None:
    assert len(index) == 16, "the broken file is left out"
    rgb_u8 = np.full((10, 200, 3), COLORS[2], np.uint8)
    answers = index.nearest(index.encode(rgb_u8), 4)
    assert {index.table["label"][answer.row] for answer in answers} == {"color2"}
    assert [a.distance for a in answers] == sorted(a.distance for a in answers)
    assert index.picture(answers[0].row).shape == (24, 32, 3)


@pytest.mark.parametrize("features", [name for name in FEATURES if name != "vgg"])
def test_index_is_the_same_from_its_folder(features: str, manifest: Manifest, tmp_path: Path) -> None:
    parameters = {"words": 4} if features == "regions" else {}
    index = indexed(manifest, tmp_path, features, **parameters)
    back = load_index(save_index(index, tmp_path / "index"))
    pd.testing.assert_frame_equal(back.table, index.table, check_dtype=False)
    np.testing.assert_array_equal(back.codes, index.codes)
    picture = index.picture(3)
    np.testing.assert_array_equal(back.encode(picture), index.encode(picture))
    assert (back.root, back.classes, back.data_hash) == (index.root, index.classes, "abc")
    for search in ("exact", "approximate"):
        assert back.nearest(back.encode(picture), 5, search) == index.nearest(index.encode(picture), 5, search)  # type: ignore[arg-type]
    assert not [p for p in (tmp_path / "index").iterdir() if p.suffix in (".pkl", ".npy", ".pt")]


def test_index_by_a_network_holds_the_network(manifest: Manifest, tmp_path: Path, network: Path) -> None:
    index = indexed(manifest, tmp_path, "vgg", weights=str(network), size=32)
    folder = save_index(index, tmp_path / "index")
    network.unlink()
    back = load_index(folder)
    picture = index.picture(3)
    np.testing.assert_array_equal(back.encode(picture), index.encode(picture))
    np.testing.assert_allclose(np.linalg.norm(index.codes, axis=1), 1, rtol=1e-6)


def test_pooled_features_are_those_of_the_runs_network(network: Path) -> None:
    from figleaf.skin.vgg_code import VggCode
    from figleaf.vgg.weights import load

    pictures = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)
    trained, _ = load(network)
    with torch.inference_mode():
        features = trained.features(trained.normalize(torch.from_numpy(pictures).permute(0, 3, 1, 2)))
    expected = features.mean((2, 3)).numpy()
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(VggCode(weights=str(network), size=32).fit_transform(pictures), expected, atol=1e-5)


def test_imagenet_convolutions_become_features(shared: Path) -> None:
    from figleaf.skin.vgg_code import VggCode

    code = VggCode(weights=str(shared / "weights" / "vgg16_conv_imagenet_f16.npz"), size=32)
    found = code.fit_transform(np.zeros((1, 32, 32, 3), np.uint8))
    assert found.shape == (1, 512)
    assert len(code.get_feature_names_out()) == 512


def test_network_smaller_than_its_poolings_allow_is_refused(network: Path) -> None:
    with pytest.raises(FigleafError, match="size=16: expected at least 32"):
        FEATURES["vgg"](weights=str(network), size=16).fit([])


def edited(folder: Path, change: Callable[[dict[str, object]], None]) -> None:
    """Change index.json and let its own hash be right, as somebody else's program would."""
    from figleaf.skin.retrieval_files import _digest

    said = json.loads((folder / "index.json").read_text())
    said.pop("sha256")
    change(said)
    (folder / "index.json").write_text(json.dumps({**said, "sha256": _digest(said)}))


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(bytes(content))


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (lambda f: flip(f / "codes.safetensors"), "codes.safetensors: damaged"),
        (lambda f: flip(f / "table.parquet"), "table.parquet: damaged"),
        (lambda f: flip(f / "code.safetensors"), "code.safetensors: damaged"),
        (lambda f: flip(f / "graph.faiss"), "graph.faiss: damaged"),
        (lambda f: (f / "graph.faiss").unlink(), "graph.faiss: cannot be read"),
        (lambda f: (f / "codes.safetensors").write_bytes(b""), "codes.safetensors: damaged"),
        (lambda f: (f / "table.parquet").unlink(), "table.parquet: cannot be read"),
        (lambda f: (f / "index.json").write_text("{"), "index.json: cannot be read"),
        (lambda f: (f / "index.json").write_text('{"a": 1}'), "no image index: its index.json is of another kind"),
        (lambda f: (f / "index.json").unlink(), "no image index: it has no index.json"),
        (lambda f: shutil.rmtree(f), "no such folder"),
        (
            lambda f: (f / "index.json").write_text((f / "index.json").read_text().replace('"colors"', '"colours"')),
            "damaged or edited",
        ),
        (lambda f: edited(f, lambda said: said.update(format_version=9)), "format 9, this figleaf reads 1"),
        (lambda f: edited(f, lambda said: said.update(features="magic")), "features 'magic', this figleaf knows"),
        (lambda f: edited(f, lambda said: said.update(pictures=3)), "do not belong together"),
        (lambda f: edited(f, lambda said: said.update(parameters={"bins": 8, "wheels": 4})), "cannot read"),
        (lambda f: edited(f, lambda said: said.update(files={})), "damaged"),
    ],
)
def test_damaged_or_foreign_index_is_refused(
    damage: Callable[[Path], object], told: str, index: ImageIndex, tmp_path: Path
) -> None:
    folder = save_index(index, tmp_path / "index")
    damage(folder)
    with pytest.raises(FigleafError) as refused:
        load_index(folder).nearest(index.codes[0], 2, "approximate")
    assert told in str(refused.value)


@pytest.mark.parametrize("path", ["/etc/hostname", "../secret.png", "a/../../b.png"])
def test_index_that_names_files_outside_of_its_root_is_refused(path: str, index: ImageIndex, tmp_path: Path) -> None:
    index.table.loc[3, "path"] = path
    with pytest.raises(FigleafError, match="leaves the folder of the pictures"):
        load_index(save_index(index, tmp_path / "index"))


def test_graph_of_other_codes_is_refused(index: ImageIndex, tmp_path: Path) -> None:
    NearestGraph.build(index.codes[:5]).save(tmp_path / "graph.faiss")
    with pytest.raises(FigleafError, match="not the graph of 16 codes"):
        NearestGraph.load(tmp_path / "graph.faiss", (16, 512))
    (tmp_path / "graph.faiss").write_bytes(b"IxFI" + bytes(30))
    with pytest.raises(FigleafError, match="faiss"):
        NearestGraph.load(tmp_path / "graph.faiss", (16, 512))


def test_index_replaces_an_index_and_nothing_else(index: ImageIndex, tmp_path: Path) -> None:
    folder = save_index(index, tmp_path / "index")
    save_index(index, folder)
    assert len(load_index(folder)) == 16
    assert sorted(p.name for p in tmp_path.iterdir() if p.name.startswith(".")) == []
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").touch()
    (tmp_path / "file").touch()
    for name in ("mine", "file"):
        with pytest.raises(FigleafError, match="would be replaced"):
            save_index(index, tmp_path / name)
    assert (tmp_path / "mine" / "thesis.txt").exists()


def test_nothing_is_left_of_an_index_that_could_not_be_written(
    index: ImageIndex, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: NearestGraph, path: Path) -> None:
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr(neighbours.NearestGraph, "save", full)
    before = set(tmp_path.iterdir())
    with pytest.raises(FigleafError, match="the disk is full"):
        save_index(index, tmp_path / "index")
    assert set(tmp_path.iterdir()) == before


def test_collection_without_a_readable_picture_and_unknown_features_are_named(
    manifest: Manifest, tmp_path: Path
) -> None:
    broken = manifest.with_table(manifest.table[manifest.table["path"] == "broken.png"])
    with pytest.raises(FigleafError, match="none of its 1 pictures can be read"):
        indexed(broken, tmp_path)
    with pytest.raises(FigleafError, match="features=smell: expected one of regions"):
        build(manifest, decode_cached(manifest, 8, folder=tmp_path / "cache"), "smell", {}, data_hash="")


def checkers(side: int = 160) -> NDArray[np.uint8]:
    row, column = np.indices((side, side)) // 5
    return np.repeat(((row + column) % 2 * 255).astype(np.uint8)[..., None], 3, axis=2)


def test_blurred_pictures_keep_no_detail() -> None:
    """No neighbour differs by much: whatever is smaller than a sixteenth of the picture is gone."""
    sharp, soft = checkers(), blurred(checkers())
    assert soft.shape == sharp.shape
    assert np.abs(np.diff(sharp.astype(int), axis=1)).max() == 255
    assert np.abs(np.diff(soft.astype(int), axis=1)).max() <= 8
    for rgb_u8 in (np.zeros((1, 1, 3), np.uint8), np.zeros((1, 900, 3), np.uint8), np.zeros((900, 1, 3), np.uint8)):
        assert blurred(rgb_u8).shape == rgb_u8.shape


def test_answers_are_blurred_unless_asked_for_otherwise() -> None:
    tiles = [
        Tile(checkers(), "1: a", "x.png"),
        Tile(None, "2: b", "gone: y.png"),
        Tile(checkers(7), "3", "z" * 500),
    ] * 3
    hidden, shown = draw_answers(Tile(checkers(), "query", "q"), tiles), draw_answers(tiles[0], tiles, show=True)
    assert hidden.shape == shown.shape
    tile = (slice(12, 160), slice(190, 330))  # of the first answer
    assert np.abs(np.diff(hidden[tile].astype(int), axis=1)).max() <= 8
    assert np.abs(np.diff(shown[tile].astype(int), axis=1)).max() == 255


def test_hostile_names_are_drawn_on_one_line() -> None:
    names = ["a\nb\x1b[31m\u202e.png", "", "\udcff", "😀" * 1000]
    drawn = draw_answers(Tile(checkers(), "query", names[0]), [Tile(checkers(), name, name) for name in names])
    assert drawn.shape == draw_answers(Tile(None, "", ""), [Tile(None, "", "")] * 4).shape
