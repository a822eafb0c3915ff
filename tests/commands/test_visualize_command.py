"""`figleaf visualize`: a folder and a page that show what a network looks for and at."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from browser import Visit
from figleaf.cli import main
from figleaf.data.scenes import render
from figleaf.vgg.weights import save
from small_vgg import network

QUICK = ["steps=2", "filters=3", "layers=[block1_conv1,block5_conv3]"]
HOSTILE = "<img src=x onerror=alert(1)>.png"


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    facts = {"classes": ["safe", "<b>nsfw"], "unsafe": ["<b>nsfw"], "data_name": "skin-area proxy", "threshold": 0.25}
    save(network(), tmp_path / "net.safetensors", facts)
    return tmp_path / "net.safetensors"


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    Image.fromarray(render(0, 1, 96).rgb_u8[:, :70]).save(tmp_path / HOSTILE)
    return tmp_path / HOSTILE


def visualize(weights: Path, out: Path, *more: str) -> int:
    return main(["visualize", f"run={weights}", f"out={out}", *QUICK, *more])


def image(path: Path) -> str:
    return f"image='{path}'"


def test_everything_named_in_the_manifests_is_there(
    weights: Path, picture: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    maps = "maps=[cam,gradcam,hirescam,gradcam++,layercam,scorecam,occlusion,guided_backprop]"
    assert visualize(weights, out, image(picture), maps) == 0
    told = json.loads(capsys.readouterr().out)
    filters = json.loads((out / "filters" / "filters-manifest.json").read_text())
    seen = json.loads((out / "activation" / "activation-manifest.json").read_text())
    assert told["page"] == str(out / "index.html")
    assert [row["layerName"] for row in filters["layers"]] == ["block1_conv1", "block5_conv3"]
    assert [row["filters"] for row in filters["layers"]] == [[0, 1, 2], [0, 1, 2]]
    assert [one["method"] for one in seen["maps"]] == maps[6:-1].split(",")
    named = [path for manifest in (filters, seen) for row in manifest["layers"] for path in row["filePaths"]]
    named += [one["filePath"] for one in seen["maps"]] + [seen["filePath"]]
    written = {str(path.relative_to(out)) for path in out.rglob("*.png")}
    assert written == set(named)
    assert np.asarray(Image.open(out / seen["filePath"])).shape == (64, 64, 3)
    assert sum(seen["probScores"]) == pytest.approx(1, abs=1e-5)
    assert seen["score"] == pytest.approx(told["probabilities"]["<b>nsfw"], abs=1e-5)


def test_the_score_is_that_of_the_scorer(
    weights: Path, picture: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from figleaf.data.decode import decode, resize
    from figleaf.vgg.scorer import TorchScorer

    assert visualize(weights, tmp_path / "out", image(picture)) == 0
    logits = TorchScorer.load(weights).logits(resize(decode(picture), 64)[None])[0].astype(float)
    expected = np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum()
    told = json.loads(capsys.readouterr().out)
    assert list(told["probabilities"].values()) == pytest.approx(expected.tolist(), abs=1e-6)


def test_another_picture_leaves_nothing_of_the_one_before(weights: Path, picture: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert visualize(weights, out, image(picture), "maps=[cam,occlusion]") == 0
    (out / "activation" / "mine.png").write_bytes(b"kept")
    assert visualize(weights, out) == 0
    assert [path.name for path in (out / "activation").iterdir()] == ["mine.png"]
    assert "What they find" not in (out / "index.html").read_text()


def test_names_are_escaped_and_the_page_asks_for_nothing(weights: Path, picture: Path, tmp_path: Path) -> None:
    assert visualize(weights, tmp_path / "out", image(picture)) == 0
    page = (tmp_path / "out" / "index.html").read_text()
    assert "<img src=x" not in page
    assert "<b>nsfw" not in page
    assert "default-src 'none'; img-src data:" in page
    assert "skin-area proxy" in page


@pytest.mark.browser
def test_the_page_opens_by_itself_and_is_blurred_until_asked(
    weights: Path, picture: Path, tmp_path: Path, visit: Visit
) -> None:
    assert visualize(weights, tmp_path / "out", image(picture)) == 0
    messages: list[str] = []
    visit.page.on("console", lambda message: messages.append(message.text))
    visit.page.set_viewport_size({"width": 390, "height": 800})
    visit.page.goto((tmp_path / "out" / "index.html").as_uri())
    assert visit.page.evaluate("[...document.images].every(image => image.naturalWidth > 0)")
    covered = visit.page.locator("img.private")
    assert covered.count() == 1 + 2 + 6  # the picture, two maps, three channels of two layers
    blurs = "all => all.map(image => getComputedStyle(image).filter)"
    assert all("blur" in blur for blur in covered.evaluate_all(blurs))
    visit.page.get_by_label("Show the picture").check()
    assert set(covered.evaluate_all(blurs)) == {"none"}
    assert visit.page.evaluate("document.documentElement.scrollWidth") == 390
    assert messages == []


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["image=none.png"], "image=none.png: no such file"),
        (["layers=[block9_conv1]"], "layers=['block9_conv1']: no convolution of this VGG16: block1_conv1"),
        (["maps=[grad]"], "method=grad: expected one of cam, gradcam"),
        (["class_name=other"], "class_name=other: expected one of safe, <b>nsfw"),
        (["order=selective"], "order=selective: needs the val pictures of a run"),
        (["filters=0"], "filters=0: expected at least 1"),
        (["recipe=deep"], "recipe=deep: expected one of fourier, classic"),
    ],
)
def test_mistakes_are_named(
    weights: Path, tmp_path: Path, more: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert visualize(weights, tmp_path / "out", *more) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_file_that_is_no_picture_is_named(weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "bad.jpg").write_bytes(b"no picture")
    assert visualize(weights, tmp_path / "out", image(tmp_path / "bad.jpg")) == 2
    assert "not an image" in capsys.readouterr().err


def test_what_has_no_layers_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "model.onnx").write_bytes(b"")
    assert visualize(tmp_path / "model.onnx", tmp_path / "out") == 2
    assert "expected a run or a .safetensors file" in capsys.readouterr().err


def test_a_dense_head_has_no_maps_but_everything_else(tmp_path: Path, picture: Path) -> None:
    facts = {"classes": ["skin", "other"], "unsafe": ["skin"], "data_name": "none"}
    save(network(head="dense"), tmp_path / "dense.safetensors", facts)
    assert visualize(tmp_path / "dense.safetensors", tmp_path / "out", image(picture)) == 0
    assert "has no class map" in (tmp_path / "out" / "index.html").read_text()


@pytest.mark.slow
def test_selective_order_uses_the_val_pictures_of_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FIGLEAF_HOME", str(tmp_path / "home"))
    assert main(["train", "data=digits", "model=debug", "trainer.epochs=1"]) == 0
    capsys.readouterr()
    assert main(["visualize", "run=latest", "order=selective", "filters=4", "steps=2", f"out={tmp_path / 'out'}"]) == 0
    chosen = json.loads(capsys.readouterr().out)["filters"]
    assert all(len(channels) == 4 for channels in chosen.values())
    assert any(channels != sorted(channels) for channels in chosen.values())
