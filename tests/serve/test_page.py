"""What `build_page` writes, refuses and leaves alone."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from made_page import CLASSES, FACTS, LAYERS, Site, gallery
from PIL import Image

from figleaf.config import web_dir
from figleaf.errors import FigleafError
from figleaf.export.tfjs_scorer import TfjsScorer
from figleaf.serve import page
from figleaf.serve.page import Built, Gallery, build_page
from figleaf.vgg.network import VGG
from small_vgg import network, pictures


def build(out: Path, engine: dict[str, Path], net: VGG | None = None, **more: object) -> Built:
    net = net or network(width=0.0625, input_size=32)
    given = {"out": out, "web": web_dir(), "engine": engine, "gallery": Gallery([], "classic", 1), **more}
    return build_page(net, FACTS, **given)


def test_the_folder_holds_what_its_manifest_names(site: Site) -> None:
    out = site.built.out
    manifest = json.loads((out / "manifest.json").read_text())
    assert set(manifest["files"]) <= set(site.built.files)
    assert manifest["classes"] == list(CLASSES)
    assert manifest["run"] == {"name": "run of the <i>test", "id": "0123456789abcdef"}
    assert manifest["data"] == {"name": "skin-area proxy", "hash": "fedcba9876543210", "is_proxy": True}
    assert manifest["metrics"][-1] == {
        "key": "f1",
        "name": "F1",
        "test": {"value": 0.5, "count": False},
    }
    named = re.findall(r'(?:src|href)="([\w./-]+)"', (out / "index.html").read_text())
    assert set(named) < set(site.built.files)
    assert TfjsScorer(out / "model").classes == CLASSES
    assert site.built.parity.max_probability_diff < 5e-3


def test_sprites_hold_every_filter_at_its_place(site: Site) -> None:
    index = json.loads((site.built.out / "filters.json").read_text())
    assert [layer["name"] for layer in index["layers"]] == list(LAYERS)
    for layer, found in zip(index["layers"], gallery(site.scorer.net).found, strict=True):
        sheet = np.asarray(Image.open(site.built.out / layer["sprite"]))
        assert layer["channels"] == site.scorer.net.convolutions[layer["name"]].out_channels
        assert [one["index"] for one in layer["filters"]] == list(range(7))
        for place, picture in enumerate(found.pictures):
            row, column = divmod(place, layer["columns"])
            side = layer["tile"]
            tile = sheet[row * side : (row + 1) * side, column * side : (column + 1) * side]
            np.testing.assert_array_equal(tile, picture)


def test_a_page_takes_the_place_of_an_earlier_one_and_of_nothing_else(tmp_path: Path, engine: dict[str, Path]) -> None:
    out = tmp_path / "page"
    build(out, engine)
    (out / "model" / "of_an_earlier_build.bin").touch()
    build(out, engine)
    assert not (out / "model" / "of_an_earlier_build.bin").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["page"]
    foreign = tmp_path / "thesis"
    foreign.mkdir()
    (foreign / "manifest.json").write_text("{}")
    with pytest.raises(FigleafError, match=r"out=.*thesis: holds other files"):
        build(foreign, engine)
    assert [path.name for path in foreign.iterdir()] == ["manifest.json"]
    with pytest.raises(FigleafError, match="a file, not a folder"):
        build(foreign / "manifest.json", engine)


def test_a_failure_leaves_the_earlier_page(tmp_path: Path, engine: dict[str, Path]) -> None:
    out = tmp_path / "page"
    build(out, engine)
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    broken = network(width=0.0625, input_size=32)
    broken.layers["predictions"].get_parameter("weight").data.fill_(np.nan)
    with pytest.raises(FigleafError, match="not finite"):
        build(out, engine, broken)
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before
    assert [path.name for path in tmp_path.iterdir()] == ["page"]


def test_large_weights_get_a_folder_and_no_single_file(
    tmp_path: Path, engine: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(page, "SINGLE_MAX_BYTES", 1000)
    built = build(tmp_path / "page", engine)
    assert built.single is None
    assert "single.html" not in built.files
    assert "model/model.json" in built.files


def test_without_pictures_the_gallery_still_offers_layers(tmp_path: Path, engine: dict[str, Path]) -> None:
    build(tmp_path / "page", engine)
    index = json.loads((tmp_path / "page" / "filters.json").read_text())
    assert index["layers"][0]["name"] == "block1_conv1"
    assert all(layer["sprite"] is None for layer in index["layers"])


def test_a_dense_head_is_refused_by_name(tmp_path: Path, engine: dict[str, Path]) -> None:
    with pytest.raises(FigleafError, match="dense head"):
        build(tmp_path / "page", engine, network(head="dense"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("head", ["fc", "gap"])
@pytest.mark.parametrize("depth", [16, 19])
def test_the_pages_network_answers_as_the_checkpoint(
    depth: int, head: str, tmp_path: Path, engine: dict[str, Path]
) -> None:
    net = network(depth=depth, head=head, width=0.0625, batch_norm=depth == 16)
    built = build(tmp_path / "page", engine, net)
    assert built.parity.images > 0
    assert TfjsScorer(built.out / "model").logits(pictures()).shape == (3, 2)
