"""Weights in and out: our own files, torch and torchvision files, keras.applications files, the A-to-D start."""

import subprocess
import sys
from collections import OrderedDict
from pathlib import Path

import h5py
import numpy as np
import pytest
import safetensors.torch
import torch
import torchvision
from safetensors import SafetensorError
from torch import nn

from figleaf.errors import FigleafError
from figleaf.files import sha256_file
from figleaf.vgg.network import IMAGENET_MEAN, VGG
from figleaf.vgg.weights import init_from_shallower, initialise, load, save

SMALL = {"depth": 11, "width": 0.125, "input_size": 64, "batch_norm": False}


def small(seed: int = 0, **changes: object) -> VGG:
    torch.manual_seed(seed)
    return VGG(**{**SMALL, **changes}).eval()


def pictures(count: int = 2, size: int = 64) -> torch.Tensor:
    rng = np.random.default_rng(0)
    return torch.from_numpy(rng.integers(0, 256, (count, 3, size, size), dtype=np.uint8))


def logits(net: VGG) -> torch.Tensor:
    with torch.inference_mode():
        return net(pictures(size=net.input_size))


def keras_layers(net: VGG, seed: int = 3) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Random kernels and biases in Keras' layout for the layers of `net`."""
    rng = np.random.default_rng(seed)
    layers = {}
    for name, layer in net.layers.items():
        if isinstance(layer, nn.Conv2d):
            shape = (3, 3, layer.in_channels, layer.out_channels)
        else:
            shape = (layer.in_features, layer.out_features)
        layers[name] = (rng.normal(0, 0.1, shape).astype("f4"), rng.normal(0, 0.1, shape[-1]).astype("f4"))
    return layers


def write_npz(path: Path, layers: dict[str, tuple[np.ndarray, np.ndarray]]) -> Path:
    kernels = {f"{name}/kernel": kernel for name, (kernel, _) in layers.items()}
    biases = {f"{name}/bias": bias for name, (_, bias) in layers.items()}
    np.savez(path, **kernels, **biases)
    return path


def write_h5(path: Path, layers: dict[str, tuple[np.ndarray, np.ndarray]], *, text: type, group: str | None) -> Path:
    """Keras' legacy layout, as Keras 1 and 2 wrote it: `text` is the type of the names in the attributes."""
    convert = (lambda s: s.encode()) if text is bytes else str
    with h5py.File(path, "w") as file:
        root = file.create_group(group) if group else file
        root.attrs["layer_names"] = [convert(name) for name in ("input_1", *layers, "flatten")]
        for empty in ("input_1", "flatten"):
            root.create_group(empty).attrs["weight_names"] = np.array([], dtype="S1")
        for name, (kernel, bias) in layers.items():
            node = root.create_group(name)
            names = [f"{name}_W_1:0", f"{name}_b_1:0"]
            node.attrs["weight_names"] = [convert(n) for n in names]
            node[names[0]], node[names[1]] = kernel, bias
    return path


def test_a_saved_network_comes_back_with_its_logits_hyperparameters_and_metadata(tmp_path: Path) -> None:
    net = small(batch_norm=True, classes=3).to(memory_format=torch.channels_last)
    net.set_normalization((10, 20, 30), (40, 50, 60))
    path = save(net, tmp_path / "net.safetensors", {"classes": ["a", "b", "ç"], "threshold": 0.25})
    again, metadata = load(path)
    assert metadata == {"classes": ["a", "b", "ç"], "threshold": 0.25}
    assert again.hyperparameters == net.hyperparameters
    assert not again.training
    assert all(p.requires_grad for p in again.parameters())
    assert {k: v.dtype for k, v in again.state_dict().items()} == {k: v.dtype for k, v in net.state_dict().items()}
    assert all(torch.equal(a, b) for a, b in zip(again.state_dict().values(), net.state_dict().values(), strict=True))
    torch.testing.assert_close(logits(again), logits(net), atol=1e-6, rtol=0)


def test_the_same_network_gives_the_same_bytes_in_another_process(tmp_path: Path) -> None:
    """Several keys in the header would stand in an order that differs from process to process."""
    here, there = tmp_path / "here.safetensors", tmp_path / "there.safetensors"
    save(small(), here, {key: key for key in "qwertyuiop"})
    code = "import sys, pathlib; from figleaf.vgg import weights; a, b = map(pathlib.Path, sys.argv[1:]); "
    code += "net, metadata = weights.load(a); weights.save(net, b, metadata)"
    subprocess.run([sys.executable, "-c", code, here, there], check=True)
    assert sha256_file(here) == sha256_file(there)


@pytest.mark.parametrize("content", [b"", b"not a safetensors file", b"\xff" * 64])
def test_a_damaged_file_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "bad.safetensors"
    path.write_bytes(content)
    with pytest.raises(FigleafError, match=r"bad\.safetensors"):
        load(path)
    with pytest.raises(FigleafError, match=r"bad\.safetensors"):
        initialise(small(), str(path))


def test_a_full_disk_is_explained_and_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    monkeypatch.setattr(safetensors.torch, "save_file", full)
    with pytest.raises(FigleafError, match="the disk is full"):
        save(small(), tmp_path / "net.safetensors", {})
    assert list(tmp_path.iterdir()) == []


def test_somebody_elses_safetensors_is_no_network_but_a_source_of_weights(tmp_path: Path) -> None:
    path = tmp_path / "plain.safetensors"
    donor = small(1)
    safetensors.torch.save_file(donor.state_dict(), path)
    with pytest.raises(FigleafError, match="no figleaf hyperparameters"):
        load(path)
    net = small()
    initialise(net, str(path))
    torch.testing.assert_close(logits(net), logits(donor))


@pytest.mark.parametrize("wrap", ["plain", "model", "state_dict", "module."])
@pytest.mark.parametrize("batch_norm", [False, True])
def test_a_torchvision_file_gives_torchvisions_logits(tmp_path: Path, wrap: str, batch_norm: bool) -> None:
    torch.manual_seed(1)
    features = torchvision.models.vgg.make_layers([8, "M", 16, "M", 32, 32, "M", 64, 64, "M", 64, 64, "M"], batch_norm)
    layers = [nn.Linear(256, 512), nn.ReLU(), nn.Dropout(), nn.Linear(512, 512), nn.ReLU(), nn.Dropout()]
    classifier = nn.Sequential(*layers, nn.Linear(512, 2))
    theirs = nn.Sequential(OrderedDict(features=features, flatten=nn.Flatten(), classifier=classifier))
    theirs.train()(torch.randn(4, 3, 64, 64))  # running statistics that are not the initial ones
    state = theirs.eval().state_dict()
    path = tmp_path / "theirs.pth"
    prefixed = {f"module.{key}": value for key, value in state.items()}
    torch.save({"plain": state, "module.": prefixed}.get(wrap, {wrap: state, "epoch": 3}), path)
    net = small(batch_norm=batch_norm)
    net.set_normalization((0, 0, 0), (1, 1, 1))
    report = initialise(net, str(path))
    assert not report.left
    assert report.same_features
    assert net.mean == IMAGENET_MEAN
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    with torch.inference_mode():
        expected = theirs((pictures() / 255 - mean.view(3, 1, 1)) / std.view(3, 1, 1))
    torch.testing.assert_close(logits(net), expected, atol=1e-5, rtol=1e-5)


def test_a_training_checkpoint_brings_its_normalisation(tmp_path: Path) -> None:
    donor = small(1, mean=(1, 2, 3), std=(4, 5, 6))
    checkpoint = {"format_version": 1, "hyperparameters": donor.hyperparameters, "state_dict": donor.state_dict()}
    torch.save(checkpoint, tmp_path / "best.ckpt")
    net = small()
    initialise(net, str(tmp_path / "best.ckpt"))
    assert net.mean == (1, 2, 3)
    assert torch.equal(logits(net), logits(donor))


def test_torchvisions_caffe_style_file_is_known_by_its_name(tmp_path: Path) -> None:
    """Its classifier is all NaN, and it expects images with the mean subtracted and no division."""
    donor = small(1, depth=16)
    state = {k: v * torch.nan if k.startswith("classifier") else v for k, v in donor.state_dict().items()}
    state = {k: v for k, v in state.items() if not k.startswith("normalize")}
    path = tmp_path / "vgg16_features-amdegroot-88682ab5.pth"
    torch.save(state, path)
    net = small(depth=16)
    report = initialise(net, str(path))
    assert report.left == ("fc1", "fc2", "predictions")
    assert net.std == pytest.approx((1, 1, 1))
    assert net.mean == pytest.approx((123, 117, 104), abs=0.01)
    assert logits(net).isfinite().all()


def test_a_pickle_that_would_run_code_is_refused_and_not_run(tmp_path: Path) -> None:
    class Payload:
        def __reduce__(self) -> tuple[object, tuple[object, ...]]:
            return (Path.touch, (tmp_path / "ran",))

    torch.save({"state_dict": Payload()}, tmp_path / "evil.pth")
    with pytest.raises(FigleafError, match="without running code"):
        initialise(small(), str(tmp_path / "evil.pth"))
    assert not (tmp_path / "ran").exists()


def test_keras_weights_see_bgr_minus_the_caffe_mean(tmp_path: Path) -> None:
    """The first convolution against Keras' own arithmetic: BGR, minus the mean, kernel (height, width, in, out)."""
    net = small()
    layers = keras_layers(net)
    initialise(net, str(write_npz(tmp_path / "keras.npz", layers)))
    rgb = pictures(1)
    bgr = rgb[0].numpy()[::-1].transpose(1, 2, 0) - np.array([103.939, 116.779, 123.68])
    kernel, bias = layers["block1_conv1"]
    patch = bgr[10:13, 20:23]
    expected = np.einsum("hwi,hwio->o", patch, kernel) + bias
    with torch.inference_mode():
        found = net.features[0](net.normalize(rgb))[0, :, 11, 21]
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-4, atol=1e-3)


def test_keras_dense_layers_read_features_flattened_with_channels_last(tmp_path: Path) -> None:
    net = small(classes=3)
    layers = keras_layers(net)
    report = initialise(net, str(write_npz(tmp_path / "keras.npz", layers)))
    assert report.left == ()
    grid = torch.randn(1, 64, 2, 2)
    x = grid.permute(0, 2, 3, 1).flatten().numpy()
    for name in ("fc1", "fc2"):
        x = np.maximum(x @ layers[name][0] + layers[name][1], 0)
    x = x @ layers["predictions"][0] + layers["predictions"][1]
    with torch.inference_mode():
        np.testing.assert_allclose(net.classifier(grid.flatten(1))[0].numpy(), x, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("text", [str, bytes])
@pytest.mark.parametrize("group", [None, "model_weights"])
def test_an_h5_file_gives_what_the_npz_gives(tmp_path: Path, text: type, group: str | None) -> None:
    from_npz, from_h5 = small(1, head="gap"), small(2, head="gap")
    layers = keras_layers(from_npz)
    initialise(from_npz, str(write_npz(tmp_path / "keras.npz", layers)))
    initialise(from_h5, str(write_h5(tmp_path / "keras.h5", layers, text=text, group=group)))
    assert torch.equal(logits(from_npz), logits(from_h5))


def test_batch_norms_stay_as_drawn_when_the_source_has_none(tmp_path: Path) -> None:
    net = small(batch_norm=True, head="gap")
    report = initialise(net, str(write_npz(tmp_path / "keras.npz", keras_layers(small(head="gap", classes=7)))))
    assert len(report.loaded) == 8
    assert "left at random: predictions, 8 batch norms" in report.describe()


def test_a_deeper_network_gets_the_layers_of_the_same_place_and_the_report_calls_it_an_initialisation(
    tmp_path: Path,
) -> None:
    donor, net = small(1, depth=16, head="gap"), small(depth=19, head="gap")
    save(donor, tmp_path / "vgg16.safetensors", {})
    report = initialise(net, str(tmp_path / "vgg16.safetensors"))
    assert not report.same_features
    assert report.left == ("block3_conv4", "block4_conv4", "block5_conv4")
    assert "an initialisation" in report.describe()
    assert torch.equal(net.layers["block4_conv1"].weight, donor.layers["block4_conv1"].weight)  # type: ignore[arg-type]


def test_head_layers_behind_one_of_another_shape_are_left_at_random(tmp_path: Path) -> None:
    """Features of a random first layer mean nothing to a trained second one, though its shape fits."""
    save(small(1), tmp_path / "64.safetensors", {})
    report = initialise(small(input_size=96), str(tmp_path / "64.safetensors"))
    assert report.left == ("fc1", "fc2", "predictions")
    report = initialise(small(classes=5), str(tmp_path / "64.safetensors"))
    assert report.left == ("predictions",)
    report = initialise(small(head="gap"), str(tmp_path / "64.safetensors"))
    assert report.left == ("predictions",)


def test_another_width_is_refused_with_the_way_out(tmp_path: Path) -> None:
    save(small(1), tmp_path / "narrow.safetensors", {})
    with pytest.raises(FigleafError, match=r"block1_conv1 is \(8, 3, 3, 3\) there and \(16, 3, 3, 3\) here.*width"):
        initialise(small(width=0.25), str(tmp_path / "narrow.safetensors"))


def test_weights_that_need_batch_norms_are_refused_by_a_network_without(tmp_path: Path) -> None:
    save(small(1, batch_norm=True), tmp_path / "bn.safetensors", {})
    with pytest.raises(FigleafError, match="batch_norm=true"):
        initialise(small(), str(tmp_path / "bn.safetensors"))


def test_none_leaves_everything_as_drawn() -> None:
    net = small()
    before = logits(net)
    assert initialise(net, "none").describe() == "random initialisation"
    assert torch.equal(logits(net), before)


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("torchvision:IMAGENET1K_V9", "torchvision:IMAGENET1K_V1"),
        ("nowhere/vgg16.pth", "no such file"),
        ("README.md", "expected a file ending in"),
    ],
)
def test_an_unknown_source_is_answered_with_the_known_ones(source: str, reason: str) -> None:
    with pytest.raises(FigleafError, match=reason):
        initialise(small(), source)


def test_a_torchvision_name_without_a_network_says_what_to_fetch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_network(*_: object, **__: object) -> None:
        raise OSError("Name or service not known")

    monkeypatch.setattr(torch.hub, "download_url_to_file", no_network)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    with pytest.raises(FigleafError, match=r"fetch https://download.pytorch.org/models/vgg11-\w+\.pth on a machine"):
        initialise(small(), "torchvision:DEFAULT")


@pytest.mark.parametrize("name", ["a.npz", "a.h5", "a.pth"])
def test_damaged_files_of_every_kind_are_named(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"PK\x03\x04 and then nothing of use")
    with pytest.raises(FigleafError, match=name):
        initialise(small(), str(tmp_path / name))


def test_files_that_are_no_vgg_are_named(tmp_path: Path) -> None:
    torch.save({"fc.weight": torch.zeros(2, 2)}, tmp_path / "resnet.pth")
    np.savez(tmp_path / "other.npz", x=np.zeros(3))
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["x"] = np.zeros(3)
    for name, reason in (("resnet.pth", "0 convolutions"), ("other.npz", "block1_conv1"), ("other.h5", "layer_names")):
        with pytest.raises(FigleafError, match=reason):
            initialise(small(), str(tmp_path / name))


@pytest.mark.parametrize("batch_norm", [False, True])
def test_the_papers_start_copies_four_convolutions_and_three_dense_layers(batch_norm: bool) -> None:
    a, d = small(1, batch_norm=batch_norm), small(2, depth=16, batch_norm=batch_norm)
    before = {name: layer.weight.sum().item() for name, layer in d.convolutions.items()}
    copied = init_from_shallower(d, a)
    convolutions = ["block1_conv1", "block2_conv1", "block3_conv1", "block3_conv2"]
    assert [name for name in copied if "_bn" not in name] == [*convolutions, "fc1", "fc2", "predictions"]
    assert len(copied) == 7 + 4 * batch_norm
    for name in copied:
        assert torch.equal(d.layers[name].weight, a.layers[name].weight), name  # type: ignore[arg-type]
    untouched = set(before) - set(convolutions)
    assert all(d.convolutions[name].weight.sum().item() == before[name] for name in untouched)


def test_the_papers_start_needs_the_same_width() -> None:
    with pytest.raises(FigleafError, match="width, head, classes and input_size must agree"):
        init_from_shallower(small(depth=16), small(width=0.25))


def test_the_imagenet_weights_fill_every_convolution_of_vgg16(shared: Path) -> None:
    source = shared / "weights" / "vgg16_conv_imagenet_f16.npz"
    with torch.device("meta"):
        net = VGG(depth=16, batch_norm=False, head="gap", input_size=64)
    net = net.to_empty(device="cpu").eval()
    report = initialise(net, str(source))
    assert report.same_features
    assert report.left == ("predictions",)
    assert net.mean == (123.68, 116.779, 103.939)
    with np.load(source) as arrays:
        kernel = arrays["block3_conv2/kernel"].astype(np.float32)
    assert np.array_equal(net.convolutions["block3_conv2"].weight.detach().numpy(), kernel.transpose(3, 2, 0, 1))
