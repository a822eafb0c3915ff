"""The exported network in Node: TensorFlow.js gives the checkpoint's answers, and the command shows what is inside."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from figleaf.data.decode import RESIZE_RULE, decode, resize
from figleaf.data.scenes import render
from figleaf.explain.cam import as_images, class_maps
from figleaf.explain.layers import activations
from figleaf.export.tfjs import write_tfjs
from figleaf.vgg.network import VGG
from small_vgg import network

WEB = Path(__file__).parents[2] / "web"
PACKAGES = ("@tensorflow/tfjs", "@tensorflow/tfjs-backend-wasm", "sharp")
CLASSES = ("safe", "nsfw")
FACTS = {"classes": CLASSES, "unsafe": CLASSES[1:], "threshold": 0.5, "resize_rule": RESIZE_RULE, "input_size": 64}

pytestmark = [
    pytest.mark.skipif(shutil.which("node") is None, reason="needs Node.js 20"),
    pytest.mark.skipif(
        not all((WEB / "node_modules" / name / "package.json").is_file() for name in PACKAGES),
        reason="needs `npm ci` in web/, which `make setup` does",
    ),
]


def node(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["node", str(WEB / "visualize.mjs"), *map(str, arguments)], capture_output=True, text=True, timeout=300
    )


def learned(**changes: Any) -> VGG:
    """A network whose logits differ from picture to picture."""
    net = network(**changes)
    with torch.no_grad():
        last = net.layers["predictions"].get_parameter("weight")
        # Logits as far apart as those of a trained network: what float16 loses grows with them.
        last.copy_(0.2 * torch.randn(last.shape, generator=torch.Generator().manual_seed(1)))
    return net


def odd_pictures(folder: Path) -> list[Path]:
    """Sizes that are not the network's, PNG and JPEG, one turned by EXIF, one grey, one with transparency."""
    made = []
    for number, (height, width) in enumerate([(97, 61), (33, 200), (64, 64), (301, 222)]):
        picture = Image.fromarray(render(5, number, 320).rgb_u8[:height, :width])
        made.append(folder / f"{number}.{'jpg' if number % 2 else 'png'}")
        exif = Image.Exif()
        if number == 3:
            exif[0x0112] = 6
        picture.save(made[-1], exif=exif, quality=95)
    Image.fromarray(render(6, 0, 80).rgb_u8).convert("L").save(folder / "grey.png")
    alpha = np.dstack([render(6, 1, 80).rgb_u8, np.tile(np.arange(80, dtype=np.uint8) * 3, (80, 1))])
    Image.fromarray(alpha).save(folder / "clear.png")
    return [*made, folder / "grey.png", folder / "clear.png"]


PARITY = """
import { tensorflow } from "%(web)s/node/tensorflow.mjs";
import { openFolder } from "%(web)s/node/files.mjs";
import { readPicture } from "%(web)s/node/picture.mjs";
import { squash } from "%(web)s/lib/resize.js";
import { readFile } from "node:fs/promises";
const [, , model, raw, ...files] = process.argv;
const { tf } = await tensorflow();
const network = await openFolder(tf, model);
const size = network.inputSize;
const bytes = raw === "-" ? new Uint8Array(0) : await readFile(raw);
const before = tf.memory().numTensors;
const out = { uint8: [], files: [] };
for (let at = 0; at < bytes.length; at += 3 * size * size) {
  out.uint8.push([...(await network.classify(bytes.subarray(at, at + 3 * size * size))).probabilities]);
}
for (const file of files) {
  const { rgb, width, height } = await readPicture(file);
  out.files.push([...(await network.classify(squash(rgb, width, height, size))).probabilities]);
}
out.leaked = tf.memory().numTensors - before;
console.log(JSON.stringify(out));
"""


def answers(tmp_path: Path, model: Path, rgb_u8: np.ndarray, files: list[Path]) -> dict[str, Any]:
    script = tmp_path / "parity.mjs"
    script.write_text(PARITY % {"web": WEB})
    (tmp_path / "raw").write_bytes(rgb_u8.tobytes())
    command = ["node", str(script), str(model), str(tmp_path / "raw") if len(rgb_u8) else "-", *map(str, files)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def softmax(net: VGG, rgb_u8: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        return torch.softmax(net(as_images(net, rgb_u8)).double(), dim=1).numpy()


@pytest.mark.parametrize("depth", [16, 19])
@pytest.mark.parametrize("head", ["gap", "fc"])
@pytest.mark.parametrize("batch_norm", [True, False])
def test_32_images_answer_as_in_torch(depth: int, head: str, batch_norm: bool, tmp_path: Path) -> None:
    net = learned(depth=depth, head=head, batch_norm=batch_norm)
    rgb_u8 = np.stack([render(2, number, 64).rgb_u8 for number in range(32)])
    expected = softmax(net, rgb_u8)
    assert np.ptp(expected[:, 1]) > 1e-3
    for dtype, tolerance in (("float32", 1e-5), ("float16", 1e-3)):
        write_tfjs(net, tmp_path / dtype, FACTS, dtype)  # type: ignore[arg-type]
        found = answers(tmp_path, tmp_path / dtype, rgb_u8, [])
        assert np.abs(np.array(found["uint8"]) - expected).max() < tolerance, dtype
        assert found["leaked"] == 0


def test_files_of_odd_sizes_and_kinds_answer_as_in_torch(tmp_path: Path) -> None:
    net, files = learned(), odd_pictures(tmp_path)
    write_tfjs(net, tmp_path / "model", FACTS)
    found = answers(tmp_path, tmp_path / "model", np.empty((0, 64, 64, 3), np.uint8), files)
    expected = softmax(net, np.stack([resize(decode(file), 64) for file in files]))
    assert np.abs(np.array(found["files"]) - expected).max() < 5e-3


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_tfjs(learned(depth=11), tmp_path / "model", FACTS, "float32")


def test_the_command_writes_what_its_manifests_name(model: Path, tmp_path: Path) -> None:
    (picture, *_) = odd_pictures(tmp_path)
    out = tmp_path / "out"
    done = node("--model", model, "--image", picture, "--filters", 3, "--steps", 2, "--out", out)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    filters = json.loads((out / "filters" / "filters-manifest.json").read_text())
    seen = json.loads((out / "activation" / "activation-manifest.json").read_text())
    assert [row["layerName"] for row in filters["layers"]] == told["layers"]
    assert told["layers"] == ["block1_conv1", "block2_conv1", "block3_conv2", "block4_conv2", "block5_conv2"]
    named = [path for manifest in (filters, seen) for row in manifest["layers"] for path in row["filePaths"]]
    named += [seen["filePath"], seen["camImagePath"]]
    assert {str(path.relative_to(out)) for path in out.rglob("*.png")} == set(named)
    assert len(named) == 2 * 5 * 3 + 2
    assert Image.open(out / seen["camImagePath"]).size == (64, 64)


def test_scores_activations_and_map_are_those_of_python(model: Path, tmp_path: Path) -> None:
    net = learned(depth=11)
    picture = odd_pictures(tmp_path)[0]
    out = tmp_path / "out"
    done = node("--model", model, "--image", picture, "--filters", 4, "--steps", 1, "--out", out, "--class", "nsfw")
    assert done.returncode == 0, done.stderr
    seen = json.loads((out / "activation" / "activation-manifest.json").read_text())
    rgb_u8 = resize(decode(picture), 64)
    assert np.array_equal(np.asarray(Image.open(out / seen["filePath"])), rgb_u8)
    assert seen["probScores"] == pytest.approx(softmax(net, rgb_u8[None])[0].tolist(), abs=1e-5)
    assert seen["score"] == pytest.approx(seen["probScores"][1], abs=1e-9)
    for row in seen["layers"]:
        maps = activations(net, as_images(net, rgb_u8[None]), [row["layerName"]])[row["layerName"]][0]
        assert row["peaks"] == pytest.approx(maps[row["filters"]].amax(dim=(1, 2)).tolist(), rel=1e-3, abs=1e-4)
    grad_cam = class_maps(net, rgb_u8[None], 1, "gradcam")
    assert seen["camMethod"] == "CAM"
    assert seen["camClass"] == "nsfw"
    assert seen["camSilent"] == bool(grad_cam.silent[0])


def test_the_climb_drives_filters_as_high_as_pythons_classic_recipe(model: Path, tmp_path: Path) -> None:
    from figleaf.explain.filters import CLASSIC, maximise

    out = tmp_path / "out"
    assert node("--model", model, "--filters", 3, "--layers", "block2_conv1", "--out", out).returncode == 0
    (row,) = json.loads((out / "filters" / "filters-manifest.json").read_text())["layers"]
    ours = maximise(learned(depth=11), "block2_conv1", [0, 1, 2], CLASSIC)
    assert row["responses"] == pytest.approx(ours.response.tolist(), rel=0.15, abs=0.15)  # from other noise


def test_a_second_picture_leaves_nothing_of_the_first(model: Path, tmp_path: Path) -> None:
    picture = odd_pictures(tmp_path)[0]
    quick = ["--model", model, "--steps", 1, "--layers", "block1_conv1", "--out", tmp_path / "out"]
    assert node(*quick, "--filters", 5, "--image", picture).returncode == 0
    assert node(*quick, "--filters", 2).returncode == 0
    assert sorted(path.name for path in (tmp_path / "out").rglob("*.png")) == [
        "block1_conv1_0.png",
        "block1_conv1_1.png",
    ]


@pytest.mark.parametrize(
    ("more", "code", "message"),
    [
        (["--model", "nothing"], 1, "no such file; `figleaf export run=RUN format=[tfjs]` writes such a folder"),
        ([], 2, "--model is missing"),
        (["--model", "{model}", "--filters", "0"], 2, "--filters 0: expected a whole number, at least 1"),
        (["--model", "{model}", "--layers", "block9_conv1"], 1, "block9_conv1: no convolution of this network"),
        (["--model", "{model}", "--class", "other"], 2, "--class other: expected one of safe, nsfw"),
        (["--model", "{model}", "--image", "{bad}"], 1, "no picture that can be decoded"),
        (["--model", "{model}", "--image", "gone.png"], 1, "gone.png: no such file"),
        (["--colour"], 2, "--colour"),
        (["x.jpg"], 2, "x.jpg: unexpected; pictures are given by --image"),
    ],
)
def test_mistakes_are_named(model: Path, tmp_path: Path, more: list[str], code: int, message: str) -> None:
    (tmp_path / "bad.jpg").write_bytes(b"\xff\xd8\xff no picture")
    given = [text.format(model=model, bad=tmp_path / "bad.jpg") for text in more]
    done = node(*given, "--out", tmp_path / "out")
    assert done.returncode == code
    assert message in done.stderr
    assert "\n    at " not in done.stderr  # no stack
    assert done.stdout == ""


def test_npm_runs_it_from_where_the_person_is(model: Path, tmp_path: Path) -> None:
    command = ["npm", "run", "--silent", "visualize", "--prefix", str(WEB), "--", "--model", "model", "--filters", "1"]
    command += ["--steps", "1", "--layers", "block1_conv1", "--out", "here"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["out"] == str(tmp_path / "here")
    assert (tmp_path / "here" / "filters" / "block1_conv1_0.png").is_file()


def test_help_and_the_gpu_that_is_not_there(model: Path, tmp_path: Path) -> None:
    assert "--filters N" in node("--help").stdout
    done = node(
        "--model", model, "--gpu", "--filters", 1, "--steps", 1, "--layers", "block1_conv1", "--out", tmp_path / "o"
    )
    assert done.returncode == 0
    assert "tfjs-node-gpu" in done.stderr
