"""An exported folder: what is in it, that it answers as the network does, and that a failure leaves nothing behind."""

import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from PIL import Image

from figleaf.data.decode import RESIZE_RULE, decode, resize
from figleaf.errors import FigleafError
from figleaf.evaluate.predictions import prob_unsafe
from figleaf.export import bundle
from figleaf.export.bundle import export_bundle
from figleaf.export.facts import ModelFacts
from figleaf.export.onnx_file import write_onnx
from figleaf.export.onnx_scorer import OnnxScorer
from figleaf.vgg import weights
from figleaf.vgg.network import VGG
from figleaf.vgg.scorer import TorchScorer

FACTS = ModelFacts(
    name="first_light-bn-s1",
    run_id="0123456789abcdef",
    classes=("covered", "exposed"),
    unsafe=("exposed",),
    data_name="skin-area proxy",
    data_hash="feed" * 16,
    threshold=0.5,
    metrics={"test/auroc": 0.98, "test/auroc_low": 0.97, "test/auroc_high": 0.99, "val/auroc": 0.985},
    settings={"model": {"depth": 11}, "seed": 1},
    git_commit="abc123",
)


def network(**changes: object) -> VGG:
    """A small network whose batch norms have seen pictures, as after training."""
    torch.manual_seed(0)
    net = VGG(**{"depth": 11, "width": 0.125, "input_size": 64, "head": "gap", **changes}).train()
    with torch.no_grad():
        for _ in range(3):
            net(torch.from_numpy(pictures(16, net.input_size)).permute(0, 3, 1, 2))
    return net.eval()


def pictures(count: int = 6, size: int = 64) -> np.ndarray:
    rng = np.random.default_rng(1)
    smooth = rng.integers(0, 256, (count, 4, 4, 3), dtype=np.uint8)
    return np.stack([np.asarray(Image.fromarray(picture).resize((size, size))) for picture in smooth])


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Encoded pictures of several sizes and formats, and one that is none."""
    folder = tmp_path_factory.mktemp("pictures")
    for number, picture in enumerate(pictures(5, 150)):
        Image.fromarray(picture[: 90 + 10 * number]).save(folder / f"{number}.{('jpg', 'png', 'webp')[number % 3]}")
    (folder / "broken.jpg").write_bytes(b"no picture")
    return sorted(folder.iterdir())


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory, files: list[Path]) -> tuple[Path, dict[str, Any]]:
    """A folder exported in every format, and the report."""
    out = tmp_path_factory.mktemp("export") / "best"
    report = export_bundle(network(), out=out, formats=["safetensors", "onnx"], facts=FACTS, pictures=files)
    return out, report


def test_the_folder_holds_the_files_and_their_hashes_and_nothing_else(exported: tuple[Path, dict[str, Any]]) -> None:
    out, report = exported
    listed = dict(reversed(line.split("  ")) for line in (out / "SHA256SUMS").read_text().splitlines())
    assert {path.name for path in out.iterdir()} == {*listed, "SHA256SUMS"}
    assert set(listed) == {"model.safetensors", "model.onnx", "model.json", "parity.json", "MODEL_CARD.md"}
    for name, digest in listed.items():
        assert hashlib.sha256((out / name).read_bytes()).hexdigest() == digest
    assert report["files"] == listed


def test_every_file_answers_as_the_checkpoint(exported: tuple[Path, dict[str, Any]], files: list[Path]) -> None:
    out, _ = exported
    net = TorchScorer(network(), FACTS.classes, FACTS.unsafe)
    for scorer in (OnnxScorer(out / "model.onnx", threads=1), TorchScorer.load(out / "model.safetensors")):
        assert (scorer.classes, scorer.unsafe, scorer.input_size) == (FACTS.classes, FACTS.unsafe, 64)
        for count in (0, 1, 3, 130):  # 130: more than one batch
            rgb_u8 = np.resize(pictures(), (count, 64, 64, 3))
            np.testing.assert_allclose(scorer.logits(rgb_u8), net.logits(rgb_u8), atol=1e-5)


def test_the_report_says_what_was_compared(exported: tuple[Path, dict[str, Any]], files: list[Path]) -> None:
    out, report = exported
    written = json.loads((out / "parity.json").read_text())
    assert written == {"tolerance": 1e-3, "formats": report["formats"], "bytes": report["bytes"]}
    assert report["bytes"]["onnx"] == (out / "model.onnx").stat().st_size
    assert report["formats"]["safetensors"] == {
        "images": 5,
        "max_logit_diff": 0.0,
        "max_probability_diff": 0.0,
        "max_score_diff": 0.0,
        "decisions_changed": 0,
    }
    assert 0 <= report["formats"]["onnx"]["max_logit_diff"] < 1e-5
    assert report["unreadable"] == {str(files[-1]): "not an image in a known format"}
    assert "broken.jpg" not in (out / "parity.json").read_text()  # the files' names are nobody else's business


def test_the_files_name_their_run_data_and_rules(exported: tuple[Path, dict[str, Any]]) -> None:
    out, _ = exported
    record = json.loads((out / "model.json").read_text())
    metadata = OnnxScorer(out / "model.onnx").metadata
    for key in ("run_id", "data_name", "data_hash", "resize_rule", "git_commit", "licence", "figleaf_version"):
        assert metadata[key] == record[key]
    assert record["resize_rule"] == RESIZE_RULE
    assert json.loads(metadata["hyperparameters"]) == network().hyperparameters == record["hyperparameters"]
    assert weights.load(out / "model.safetensors")[1]["run_id"] == FACTS.run_id
    assert record["metrics"] == dict(FACTS.metrics)


def test_the_onnx_file_takes_uint8_of_one_size_and_any_batch(exported: tuple[Path, dict[str, Any]]) -> None:
    model = onnx.load(exported[0] / "model.onnx")
    onnx.checker.check_model(model, full_check=True)
    (entry,), (answer,) = model.graph.input, model.graph.output
    dims = entry.type.tensor_type.shape.dim
    assert entry.type.tensor_type.elem_type == onnx.TensorProto.UINT8
    assert [dim.dim_param or dim.dim_value for dim in dims] == ["batch", 3, 64, 64]
    assert answer.type.tensor_type.elem_type == onnx.TensorProto.FLOAT
    assert [(opset.domain, opset.version) for opset in model.opset_import] == [("", 18)]


def test_the_onnx_file_tells_nothing_of_the_machine_it_was_made_on(exported: tuple[Path, dict[str, Any]]) -> None:
    content = (exported[0] / "model.onnx").read_bytes()
    assert str(Path(bundle.__file__).parents[1]).encode() not in content
    assert b"network.py" not in content


SCORE_ALONE = """
import sys
for name in ("torch", "torchvision", "pandas", "pyarrow", "scipy", "sklearn", "matplotlib", "safetensors", "onnx",
             "mlflow", "hydra", "omegaconf", "rich", "cv2", "h5py", "psutil", "filelock"):
    sys.modules[name] = None  # importing it fails
from pathlib import Path
from figleaf.export.onnx_scorer import OnnxScorer
scorer = OnnxScorer(Path(sys.argv[1]))
print(scorer.threshold, *(repr(scorer.score(Path(path))) for path in sys.argv[2:]))
"""


def test_an_onnx_file_scores_pictures_where_only_numpy_pillow_and_onnxruntime_are(
    exported: tuple[Path, dict[str, Any]], files: list[Path]
) -> None:
    readable = files[:-1]
    command = [sys.executable, "-c", SCORE_ALONE, exported[0] / "model.onnx", *readable]
    threshold, *scores = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    rgb_u8 = np.stack([resize(decode(path), 64) for path in readable])
    logits = TorchScorer(network(), FACTS.classes, FACTS.unsafe).logits(rgb_u8)
    expected = prob_unsafe(logits, FACTS.classes, FACTS.unsafe)
    np.testing.assert_allclose([float(score) for score in scores], expected, atol=1e-6)
    assert float(threshold) == FACTS.threshold


@pytest.mark.parametrize(
    "changes",
    [
        {"depth": 16, "batch_norm": False, "head": "fc", "classes": 3, "checkpoint_activations": True},
        {"depth": 19, "head": "fc", "input_size": 96, "adaptive_pool": True, "mean": (1, 2, 3), "std": (4, 5, 6)},
    ],
    ids=["vgg16-fc", "vgg19-adaptive"],
)
def test_onnx_answers_as_the_network_for_other_kinds(tmp_path: Path, changes: dict[str, object]) -> None:
    net = network(**changes)
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    classes = tuple("abc"[: net.classes])
    metadata = {"classes": classes, "unsafe": [], "resize_rule": RESIZE_RULE}
    scorer = OnnxScorer(write_onnx(net, tmp_path / "model.onnx", metadata))
    rgb_u8 = pictures(5, net.input_size)
    np.testing.assert_allclose(scorer.logits(rgb_u8), TorchScorer(net, classes, ()).logits(rgb_u8), atol=1e-5)
    assert scorer.threshold is None
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())
    with pytest.raises(FigleafError, match="none of the classes"):
        scorer.score(b"")


def slightly_wrong(factor: float) -> Callable[..., Path]:
    """Writes another network than it is given."""

    def write(net: VGG, path: Path, metadata: dict[str, Any]) -> Path:
        other = weights.rebuild(net.hyperparameters, {k: v.clone() for k, v in net.state_dict().items()})
        with torch.no_grad():
            other.classifier[1].weight.mul_(factor)  # type: ignore[operator, union-attr]
        return weights.save(other, path, metadata)

    return write


@pytest.mark.parametrize("factor", [1.5, float("nan")])
def test_a_file_that_answers_otherwise_is_refused_and_nothing_in_the_folder_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, factor: float
) -> None:
    (tmp_path / "model.safetensors").write_text("an earlier export")
    (tmp_path / "notes.txt").write_text("not ours")
    wrong = replace(bundle.FORMATS["safetensors"], write=slightly_wrong(factor))
    monkeypatch.setattr(bundle, "FORMATS", {"safetensors": wrong})
    with pytest.raises(FigleafError, match=r"model\.safetensors: its logits differ .* tolerance=0\.001"):
        export_bundle(network(), out=tmp_path, formats=["safetensors"], facts=FACTS, pictures=pictures())
    assert (tmp_path / "model.safetensors").read_text() == "an earlier export"
    assert {path.name for path in tmp_path.iterdir()} == {"model.safetensors", "notes.txt"}


def test_a_new_export_leaves_no_file_of_an_earlier_one_beside_it(tmp_path: Path) -> None:
    export_bundle(network(), out=tmp_path, formats=["onnx"], facts=FACTS, pictures=pictures())
    (tmp_path / "notes.txt").write_text("not ours")
    export_bundle(network(), out=tmp_path, formats=["safetensors"], facts=FACTS, pictures=pictures())
    assert not (tmp_path / "model.onnx").exists()
    assert (tmp_path / "notes.txt").exists()
    assert "model.onnx" not in (tmp_path / "SHA256SUMS").read_text()


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"formats": ["safetensors", "tflite"]}, "expected one or more of safetensors, onnx"),
        ({"formats": []}, "expected one or more of safetensors, onnx"),
        ({"pictures": []}, "no readable picture among 0"),
        ({"pictures": [Path("nowhere.jpg")]}, "no readable picture among 1"),
    ],
)
def test_mistakes_are_named(tmp_path: Path, changes: dict[str, Any], reason: str) -> None:
    arguments = {"formats": ["safetensors"], "facts": FACTS, "pictures": pictures(), **changes}
    with pytest.raises(FigleafError, match=reason):
        export_bundle(network(), out=tmp_path / "out", **arguments)
    assert not (tmp_path / "out").exists()


def test_a_file_in_the_folders_place_is_named(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("")
    with pytest.raises(FigleafError, match="a file, not a folder"):
        export_bundle(network(), out=tmp_path / "out", formats=["safetensors"], facts=FACTS, pictures=pictures())


def test_weights_beyond_what_one_onnx_file_holds_are_refused_before_any_work(tmp_path: Path) -> None:
    with torch.device("meta"):
        net = VGG(depth=16, width=2, batch_norm=False)
    with pytest.raises(FigleafError, match="at most 2 GB"):
        write_onnx(net, tmp_path / "model.onnx", {})


def test_files_that_are_not_ours_are_named(tmp_path: Path) -> None:
    broken, foreign, other = (tmp_path / f"{name}.onnx" for name in ("broken", "foreign", "other"))
    broken.write_bytes(b"no model")
    helper = onnx.helper
    value = helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1])
    output = helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1])
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "g", [value], [output])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.save(model, foreign)
    helper.set_model_props(model, {"classes": "[]", "unsafe": "[]", "resize_rule": "centre-crop"})
    onnx.save(model, other)
    for path, reason in (
        (tmp_path / "missing.onnx", "no such file"),
        (broken, "cannot load it"),
        (foreign, "not written by figleaf export"),
        (other, "resized by centre-crop"),
    ):
        with pytest.raises(FigleafError, match=reason):
            OnnxScorer(path)


def test_a_changed_decision_is_counted_at_the_threshold() -> None:
    class Fixed:
        classes, unsafe, input_size = FACTS.classes, FACTS.unsafe, 64

        def __init__(self, *margins: float) -> None:
            self.answers = np.array([[0, margin] for margin in margins], dtype=np.float32)

        def logits(self, rgb_u8: np.ndarray) -> np.ndarray:
            return self.answers

    ours, theirs = Fixed(-1, 0.4, 2), Fixed(-1, 0.6, 2)
    found = bundle.compare(ours, theirs, pictures(3), threshold=float(1 / (1 + np.exp(-0.5))))
    assert (found.images, found.decisions_changed) == (3, 1)
    assert found.max_logit_diff == pytest.approx(0.2)
    assert bundle.compare(ours, theirs, pictures(3), threshold=None).decisions_changed == 0
    assert bundle.compare(ours, Fixed(1, 0.4, 2), pictures(3), threshold=None).decisions_changed == 1


def test_facts_without_unsafe_classes_are_exported_too(tmp_path: Path) -> None:
    facts = replace(FACTS, unsafe=(), threshold=None)
    report = export_bundle(network(), out=tmp_path, formats=["safetensors"], facts=facts, pictures=pictures())
    assert report["formats"]["safetensors"]["max_score_diff"] is None


def tree(folder: Path) -> dict[str, str]:
    """Every file and link of a folder, with what is in it."""
    return {
        path.relative_to(folder).as_posix(): str(path.readlink()) if path.is_symlink() else path.read_bytes().hex()
        for path in folder.rglob("*")
        if path.is_symlink() or path.is_file()
    }


def in_the_way(kind: str, out: Path) -> None:
    if kind == "a folder for a file":
        (out / "model.json").unlink()
        (out / "model.json").mkdir()
    elif kind == "a file for a folder":
        (out / "openvino").write_text("somebody's own")
    elif kind == "a link":
        (out.parent / "victim").mkdir()
        shutil.rmtree(out / "tfjs")
        (out / "tfjs").symlink_to(out.parent / "victim")
    elif kind == "a folder inside":
        (out / "tfjs" / "more").mkdir()
    elif kind == "no list":
        (out / "SHA256SUMS").write_bytes(b"\xff\xfe")


@pytest.mark.parametrize("kind", ["a folder for a file", "a file for a folder", "a link", "a folder inside", "no list"])
def test_what_stands_in_the_way_is_named_before_any_work_and_nothing_changes(tmp_path: Path, kind: str) -> None:
    out = tmp_path / "out"
    export_bundle(network(), out=out, formats=["onnx", "tfjs"], facts=FACTS, pictures=pictures())
    in_the_way(kind, out)
    before = tree(tmp_path)
    with pytest.raises(FigleafError, match=r"name another out|is this a folder of `figleaf export`"):
        export_bundle(network(), out=out, formats=["safetensors"], facts=FACTS, pictures=pictures())
    assert tree(tmp_path) == before


def test_a_folder_that_was_removed_by_hand_is_no_obstacle(tmp_path: Path) -> None:
    export_bundle(network(), out=tmp_path, formats=["onnx", "tfjs"], facts=FACTS, pictures=pictures())
    shutil.rmtree(tmp_path / "tfjs")
    export_bundle(network(), out=tmp_path, formats=["safetensors"], facts=FACTS, pictures=pictures())
    assert {path.name for path in tmp_path.iterdir()} == {
        "model.safetensors", "model.json", "parity.json", "MODEL_CARD.md", "SHA256SUMS",
    }  # fmt: skip


def test_a_move_that_fails_half_way_leaves_the_earlier_export(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    export_bundle(network(), out=tmp_path, formats=["onnx", "tfjs"], facts=FACTS, pictures=pictures())
    before = tree(tmp_path)
    replace_, done = Path.replace, []

    def failing(self: Path, target: Path) -> Path:
        if self.name == "MODEL_CARD.md" and ".export-" in str(self) and "earlier" not in str(self):
            raise OSError(28, "No space left on device")
        done.append(self.name)
        return replace_(self, target)

    monkeypatch.setattr(Path, "replace", failing)
    with pytest.raises(FigleafError, match="the disk is full"):
        export_bundle(network(), out=tmp_path, formats=["safetensors"], facts=FACTS, pictures=pictures())
    assert "model.safetensors" in done, "it was well on its way"
    assert tree(tmp_path) == before
