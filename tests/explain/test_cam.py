"""Class maps: what is exact is exact, what differs by a factor only does, and what is silent is said to be."""

import numpy as np
import pytest
import torch

from figleaf.errors import FigleafError
from figleaf.explain.cam import METHODS, ClassMaps, as_images, class_maps, methods_of
from figleaf.vgg.network import VGG
from small_vgg import network, pictures


def logits(net: VGG, rgb_u8: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        return net(as_images(net, rgb_u8)).numpy()


def test_cam_of_a_gap_head_is_the_logit_spread_over_the_picture() -> None:
    net = network()
    found = class_maps(net, pictures(), [0, 1, 1], "cam")
    bias = net.layers["predictions"].get_parameter("bias").detach().numpy()
    for row, name in enumerate([0, 1, 1]):
        assert found.maps[row].mean() == pytest.approx(logits(net, pictures())[row, name] - bias[name], abs=1e-5)


def test_hirescam_of_a_gap_head_is_the_logit_too_four_times_as_fine() -> None:
    net = network()
    fine = class_maps(net, pictures(), 1, "hirescam").maps
    coarse = class_maps(net, pictures(), 1, "cam").maps
    assert fine.shape[1:] == (4, 4)
    assert coarse.shape[1:] == (2, 2)
    np.testing.assert_allclose(fine.reshape(3, 2, 2, 2, 2).sum(axis=(2, 4)) * 4, coarse, atol=1e-5)


def test_grad_cam_on_the_pooled_maps_is_cam_up_to_a_factor() -> None:
    """The same library on the layer that the head averages: where CAM is exact, Grad-CAM equals it."""
    from torchcam.methods import GradCAM

    net, rgb = network(), as_images(network(), pictures())
    with GradCAM(net, net.features[-1]) as extractor:
        (gradcam,) = extractor([1, 0, 1], net(rgb.requires_grad_()), normalized=False)
    cam = np.clip(class_maps(net, pictures(), [1, 0, 1], "cam").maps, 0, None)
    np.testing.assert_allclose(gradcam.numpy() * 4, cam, atol=1e-5)  # 4 places, of which the head takes the mean


def test_hirescam_of_a_linear_head_adds_up_to_what_the_gradient_says() -> None:
    """Activation times gradient sums to the directional derivative of the logit: by Euler, checked by differences."""
    net = network(head="fc", batch_norm=False).double()
    rgb = as_images(net, pictures(1)).double()
    features = torch.nn.Sequential(net.normalize, *net.features[:-1])(rgb).detach()

    def logit(factor: float) -> float:
        return float(net.from_stage(net.features[-1](features * factor), 5)[0, 1].detach())

    slope = (logit(1 + 1e-6) - logit(1 - 1e-6)) / 2e-6
    found = METHODS["hirescam"].maps(net.requires_grad_(False), rgb, [1])
    assert float(found.detach().sum()) == pytest.approx(slope, rel=1e-4)


@pytest.mark.parametrize(("head", "batch_norm"), [("gap", True), ("fc", True), ("fc", False)])
def test_every_method_gives_finite_maps_and_leaves_the_network_alone(head: str, batch_norm: bool) -> None:
    net = network(head=head, batch_norm=batch_norm)
    before = logits(net, pictures())
    done: list[int] = []
    for method in methods_of(net):
        with torch.no_grad():  # as a caller may be
            found = class_maps(net, pictures(), [0, 1, 0], method, batch=2, on_done=done.append)
        assert np.isfinite(found.maps).all()
        assert found.maps.shape[0] == 3
        shown = found.shown(64)
        assert shown.shape == (3, 64, 64)
        assert shown.min() >= 0
        np.testing.assert_allclose(shown.max(axis=(1, 2)), ~found.silent, rtol=1e-6)
    assert sum(done) == 3 * len(methods_of(net))
    np.testing.assert_array_equal(logits(net, pictures()), before)
    assert not net.training
    assert all(weight.requires_grad for weight in net.parameters())
    assert not any(layer._forward_hooks or layer._backward_hooks for layer in net.modules())


def test_a_picture_has_the_same_map_alone_as_in_company() -> None:
    net = network(head="fc")
    for method in methods_of(net):
        together = class_maps(net, pictures(), [0, 1, 0], method).maps[1]
        alone = class_maps(net, pictures()[1:2], 1, method).maps[0]
        np.testing.assert_allclose(together, alone, rtol=1e-3, atol=1e-6, err_msg=method)


def test_maps_are_loudest_where_a_network_looks() -> None:
    """Stage one answers to red, the others pass it on: only the red square speaks for the class."""
    net = network(batch_norm=False)
    with torch.no_grad():
        for layer in net.convolutions.values():
            layer.weight.zero_()
            layer.bias.zero_()  # type: ignore[union-attr]
            layer.weight[0, 0, 1, 1] = 1
        first = net.convolutions["block1_conv1"].weight
        first[0, 1, 1, 1] = first[0, 2, 1, 1] = -1
        net.layers["predictions"].get_parameter("weight").zero_()[1, 0] = 1
    picture = np.full((1, 64, 64, 3), 100, np.uint8)
    picture[0, 36:44, 20:28] = (250, 20, 20)
    for method in ("occlusion", "cam", "hirescam", "layercam", "scorecam"):
        shown = class_maps(net, picture, 1, method).shown(64)[0]
        quarters = shown.reshape(2, 32, 2, 32).mean(axis=(1, 3))
        assert quarters.argmax() == 2, method  # below, left
        assert quarters[1, 0] > 1.5 * np.sort(quarters.ravel())[-2], method


def test_a_map_without_evidence_is_silent_and_shown_as_nothing() -> None:
    maps = ClassMaps("cam", (0, 1), np.stack([-np.ones((2, 2)), np.eye(2)]).astype(np.float32))
    assert maps.silent.tolist() == [True, False]
    assert maps.shown(8)[0].max() == 0
    assert maps.shown(8)[1].max() == 1


def test_no_pictures_give_no_maps() -> None:
    assert len(class_maps(network(), pictures(0), 0, "gradcam").maps) == 0


def test_mistakes_are_named() -> None:
    with pytest.raises(FigleafError, match="method=saliency: expected one of cam, gradcam"):
        class_maps(network(), pictures(), 0, "saliency")
    with pytest.raises(FigleafError, match="method=cam: exact CAM needs a gap head, this one is fc; try hirescam"):
        class_maps(network(head="fc"), pictures(), 0, "cam")
    with pytest.raises(FigleafError, match="dense head"):
        class_maps(network(head="dense"), pictures(), 0, "gradcam")
    with pytest.raises(FigleafError, match="class 2: the network has 2"):
        class_maps(network(), pictures(), 2, "cam")
    with pytest.raises(FigleafError, match="2 classes for 3 pictures"):
        class_maps(network(), pictures(), [0, 1], "cam")


@pytest.mark.slow
@pytest.mark.parametrize(("depth", "head"), [(16, "fc"), (19, "gap")])
def test_full_size_networks_at_224_px(depth: int, head: str) -> None:
    found = class_maps(VGG(depth=depth, head=head), pictures(1, 224), 1, "hirescam")
    assert found.maps.shape == (1, 14, 14)
