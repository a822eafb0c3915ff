"""The TensorFlow.js folder: it answers as the network for every kind, and what has no equal layer there is refused."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from figleaf.data.decode import RESIZE_RULE, resize
from figleaf.errors import FigleafError
from figleaf.export import tfjs
from figleaf.export.bundle import export_bundle
from figleaf.export.facts import ModelFacts
from figleaf.export.tfjs import write_tfjs
from figleaf.export.tfjs_scorer import TfjsScorer
from figleaf.vgg.network import VGG
from figleaf.vgg.scorer import TorchScorer

CLASSES = ("covered", "exposed")
METADATA = {"classes": CLASSES, "unsafe": CLASSES[1:], "threshold": 0.5, "resize_rule": RESIZE_RULE}
FACTS = ModelFacts("a", "b", CLASSES, CLASSES[1:], data_name="scenes", data_hash="c", threshold=0.5)
KINDS = {
    f"vgg{depth}{'_bn' * norm}-{head}": {"depth": depth, "batch_norm": norm, "head": head}
    for depth in (16, 19)
    for norm in (False, True)
    for head in ("gap", "fc")
}


def network(**changes: Any) -> VGG:
    """A small network with batch norms, biases and logits that are all far from where they start."""
    torch.manual_seed(0)
    net = VGG(**{"width": 0.125, "input_size": 64, "head": "gap", **changes}).eval()
    with torch.no_grad():
        for name, tensor in net.state_dict().items():
            if name.endswith("running_var"):
                tensor.uniform_(0.5, 2)
            elif name.endswith(("bias", "running_mean")):
                tensor.uniform_(-0.2, 0.2)
            elif tensor.ndim == 1:
                tensor.uniform_(0.5, 1.5)
        for layer in net.layers.values():
            if isinstance(layer, torch.nn.Linear):
                torch.nn.init.kaiming_normal_(layer.get_parameter("weight"), nonlinearity="relu")
    return net


def pictures(count: int = 4, size: int = 64) -> np.ndarray:
    """Smooth ones: those of noise are all alike to a network."""
    coarse = np.random.default_rng(1).integers(0, 256, (count, 3, 3, 3), dtype=np.uint8)
    return np.stack([resize(picture, size) for picture in coarse])


def model(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "model.json").read_text())


@pytest.mark.parametrize("changes", KINDS.values(), ids=KINDS)
@pytest.mark.parametrize("size", [32, 64, 96])
def test_float32_answers_as_the_network_of_every_kind(changes: dict[str, Any], size: int, tmp_path: Path) -> None:
    net = network(input_size=size, **changes)
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    scorer = TfjsScorer(write_tfjs(net, tmp_path, METADATA, "float32"))
    expected = TorchScorer(net, CLASSES, CLASSES[1:]).logits(pictures(size=size))
    assert np.ptp(expected) > 0.1  # a network that says the same of everything would prove nothing
    np.testing.assert_allclose(scorer.logits(pictures(size=size)), expected, atol=1e-4, rtol=1e-5)
    assert (scorer.classes, scorer.unsafe, scorer.input_size, scorer.threshold) == (CLASSES, CLASSES[1:], size, 0.5)
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())


@pytest.mark.parametrize("size", [100, 255])
def test_sizes_that_poolings_do_not_divide_are_exact_too(size: int, tmp_path: Path) -> None:
    net = network(head="fc", depth=11, input_size=size)
    scorer = TfjsScorer(write_tfjs(net, tmp_path, METADATA, "float32"))
    expected = TorchScorer(net, CLASSES, CLASSES[1:]).logits(pictures(2, size))
    np.testing.assert_allclose(scorer.logits(pictures(2, size)), expected, atol=1e-4, rtol=1e-5)


def test_border_pixels_see_the_mean_and_not_black(tmp_path: Path) -> None:
    net = network(mean=(200, 10, 90), std=(3, 50, 120), batch_norm=False)
    scorer = TfjsScorer(write_tfjs(net, tmp_path, METADATA, "float32"))
    flat = np.broadcast_to(np.array([200, 10, 90], np.uint8), (1, 64, 64, 3))  # nothing but bias is left of it
    for rgb_u8 in (flat, pictures()):
        expected = TorchScorer(net, CLASSES, ()).logits(rgb_u8)
        np.testing.assert_allclose(scorer.logits(rgb_u8), expected, rtol=2e-5, atol=1e-4)


@pytest.mark.parametrize(("dtype", "share"), [("float16", 0.5), ("uint8", 0.25)])
def test_fewer_bits_are_fewer_bytes_and_a_small_difference(dtype: tfjs.Dtype, share: float, tmp_path: Path) -> None:
    net = network()
    exact = TfjsScorer(write_tfjs(net, tmp_path / "float32", METADATA, "float32"))
    lossy = TfjsScorer(write_tfjs(net, tmp_path / dtype, METADATA, dtype))
    sizes = [
        model(tmp_path / name)["userDefinedMetadata"]["figleaf"]["tfjs"]["weight_bytes"] for name in ("float32", dtype)
    ]
    assert sizes[1] / sizes[0] == pytest.approx(share, rel=0.02)
    difference = np.abs(exact.logits(pictures()) - lossy.logits(pictures())).max()
    assert 0 < difference < (0.01 if dtype == "float16" else 0.5)


def test_shards_are_cut_at_four_mebibytes_wherever_a_weight_ends(tmp_path: Path) -> None:
    net = network(width=0.5)
    write_tfjs(net, tmp_path, METADATA, "float32")
    (group,) = model(tmp_path)["weightsManifest"]
    sizes = [(tmp_path / path).stat().st_size for path in group["paths"]]
    assert len(sizes) > 2
    assert set(sizes[:-1]) == {4 * 2**20}
    assert 0 < sizes[-1] <= 4 * 2**20
    assert sum(sizes) == sum(4 * int(np.prod(spec["shape"])) for spec in group["weights"])
    assert {path.name for path in tmp_path.iterdir()} == {*group["paths"], "model.json"}
    assert TfjsScorer(tmp_path).logits(pictures(1)).shape == (1, 2)


def test_layers_are_named_as_in_keras_applications(tmp_path: Path) -> None:
    write_tfjs(network(head="fc"), tmp_path, METADATA)
    layers = model(tmp_path)["modelTopology"]["model_config"]["config"]["layers"]
    names = [layer["config"]["name"] for layer in layers]
    assert names[:4] == ["normalize", "block1_conv1", "block1_conv2", "block1_pool"]
    assert names[-6:] == ["block5_conv3", "block5_pool", "flatten", "fc1", "fc2", "predictions"]
    assert layers[-1]["config"]["activation"] == "linear"  # logits
    assert layers[0]["config"]["batch_input_shape"] == [None, 64, 64, 3]


@pytest.mark.parametrize(("head", "method"), [("gap", "CAM"), ("fc", "Grad-CAM")])
def test_the_record_names_the_run_and_how_maps_are_made(head: str, method: str, tmp_path: Path) -> None:
    write_tfjs(network(head=head, depth=13), tmp_path, {**METADATA, "run_id": "abc"})
    record = model(tmp_path)["userDefinedMetadata"]["figleaf"]
    assert record["cam"] == {"layer": "block5_conv2", "method": method}
    assert (record["run_id"], record["classes"], record["tfjs"]["dtype"]) == ("abc", list(CLASSES), "float16")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"head": "dense"}, "a dense head .* no layer that resizes alike"),
        ({"head": "fc", "adaptive_pool": True}, r"adaptive_pool=true makes 7x7 of the 2x2 grid at input_size=64"),
    ],
)
def test_what_has_no_equal_layer_is_refused_before_anything_is_written(
    changes: dict[str, Any], reason: str, tmp_path: Path
) -> None:
    with pytest.raises(FigleafError, match=reason):
        export_bundle(
            network(**changes), out=tmp_path / "out", formats=["safetensors", "tfjs"], facts=FACTS, pictures=pictures()
        )
    assert not (tmp_path / "out").exists()


def test_adaptive_pooling_that_changes_nothing_is_left_out(tmp_path: Path) -> None:
    net = network(head="fc", adaptive_pool=True, input_size=224, depth=11)
    scorer = TfjsScorer(write_tfjs(net, tmp_path, METADATA, "float32"))
    expected = TorchScorer(net, CLASSES, ()).logits(pictures(1, 224))
    np.testing.assert_allclose(scorer.logits(pictures(1, 224)), expected, atol=1e-4, rtol=1e-5)


def test_kernels_beyond_float16_are_refused_with_the_way_out(tmp_path: Path) -> None:
    net = network()
    with torch.no_grad():
        net.convolutions["block2_conv1"].weight[0, 0, 0, 0] = 1e6
    with pytest.raises(FigleafError, match=r"block2_conv1/kernel goes beyond .* tfjs_dtype=float32"):
        write_tfjs(net, tmp_path, METADATA)
    with pytest.raises(FigleafError, match="tfjs_dtype=int4: expected float32, float16, uint8"):
        write_tfjs(net, tmp_path, METADATA, "int4")  # type: ignore[arg-type]


def test_a_bundle_holds_the_folder_with_its_hashes_and_replaces_an_earlier_one(tmp_path: Path) -> None:
    arguments: dict[str, Any] = {"out": tmp_path, "facts": FACTS, "pictures": pictures()}
    wide = export_bundle(network(width=0.5), formats=["onnx", "tfjs"], tfjs_dtype="float32", **arguments)
    shards = [name for name in wide["files"] if name.endswith(".bin")]
    assert len(shards) > 2
    assert "probability_tolerance" not in wide
    (tmp_path / "tfjs" / "notes.txt").write_text("not ours")
    small = export_bundle(network(), formats=["tfjs"], **arguments)
    assert small["probability_tolerance"] == {"tfjs": 5e-3}
    assert 0 < small["formats"]["tfjs"]["max_probability_diff"] < 5e-3
    there = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()}
    assert there == {*small["files"], "SHA256SUMS", "tfjs/notes.txt"}
    assert set(small["files"]) == {
        "tfjs/model.json", "tfjs/group1-shard1of1.bin", "model.json", "parity.json", "MODEL_CARD.md",
    }  # fmt: skip
    (tmp_path / "tfjs" / "notes.txt").unlink()
    export_bundle(network(), formats=["safetensors"], **arguments)
    assert not (tmp_path / "tfjs").exists()


def test_a_lossy_folder_that_answers_otherwise_is_refused_by_its_own_measure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        tfjs,
        "_folded",
        lambda convolution, norm: (2 * convolution.weight.detach().double().numpy(), np.ones(convolution.out_channels)),
    )
    with pytest.raises(
        FigleafError, match=r"tfjs: its probabilities differ .* lossy weights=0\.005; .* tfjs_dtype=float32"
    ):
        export_bundle(network(), out=tmp_path, formats=["tfjs"], facts=FACTS, pictures=pictures())
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("broken", ["cut", "missing", "foreign"])
def test_files_that_are_not_a_model_of_ours_are_named(broken: str, tmp_path: Path) -> None:
    write_tfjs(network(), tmp_path, METADATA)
    shard = tmp_path / "group1-shard1of1.bin"
    if broken == "cut":
        shard.write_bytes(shard.read_bytes()[:-2])
    elif broken == "missing":
        shard.unlink()
    else:
        (tmp_path / "model.json").write_text("{}")
    with pytest.raises(FigleafError, match=r"no TensorFlow\.js model that figleaf exported"):
        TfjsScorer(tmp_path)
