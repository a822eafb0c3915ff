"""Class activation maps: where in a picture a network found its evidence for a class.

All explain a logit, never a probability: where the softmax saturates, its gradient says nothing. With a `gap` head, CAM
and HiResCAM are exact, their means are the logit but for its bias (CAM on the pooled maps of stage five, HiResCAM on
what enters that pooling, four times as fine). Behind an `fc` head there is no CAM, and HiResCAM is the one whose map
adds up to what the head's linear regime says. The gradient methods other than HiResCAM are those of torchcam, occlusion
and guided backpropagation those of captum.
"""

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from figleaf.errors import FigleafError
from figleaf.explain.layers import last_relu
from figleaf.vgg.network import HEAD, VGG

BATCH = 16  # pictures at once: ScoreCAM and occlusion make a batch of every one of them besides
_INSIDE = 32  # masked or occluded copies at once
_PATCH = 1 / 8  # side of the occluded square, of the picture's; it moves by half of that


@dataclass(frozen=True, eq=False)
class ClassMaps:
    """Maps (N, h, w) for the `classes` (N,) of N pictures: how much each place speaks for the class.

    In units of the logit for `cam`, `hirescam` and `occlusion`, which are negative where a place speaks against it; in
    units of their own for the others, which are never negative.
    """

    method: str
    classes: tuple[int, ...]
    maps: NDArray[np.float32]

    @property
    def silent(self) -> NDArray[np.bool_]:
        """(N,): whether no place speaks for the class, so that there is nothing to show."""
        return np.asarray((self.maps <= 0).all(axis=(1, 2)))

    def shown(self, size: int) -> NDArray[np.float32]:
        """Maps (N, size, size) in 0-1, bilinear: 0 speaks not for the class, 1 most; all 0 where one is silent."""
        fine = F.interpolate(torch.from_numpy(self.maps).clamp_min(0)[:, None], (size, size), mode="bilinear")[:, 0]
        most = fine.amax(dim=(1, 2), keepdim=True)
        return (fine / torch.where(most > 0, most, 1)).numpy()


def class_maps(
    net: VGG,
    rgb_u8: NDArray[np.uint8],
    classes: int | Sequence[int],
    method: str = "gradcam",
    *,
    batch: int = BATCH,
    on_done: Callable[[int], None] | None = None,
) -> ClassMaps:
    """The maps of RGB pictures (N, S, S, 3) for one class, or for one each, by a method of `METHODS`.

    `net` stays where it lies and in its mode. `on_done` is told how many pictures are finished.

    Raises `FigleafError` for a method that is none or does not go with the network's head, and a class that is none.
    """
    require_method(net, method)
    wanted = [classes] * len(rgb_u8) if isinstance(classes, int) else list(classes)
    if unknown := [index for index in wanted if not 0 <= index < net.classes]:
        raise FigleafError(f"class {unknown[0]}: the network has {net.classes}, counted from 0")
    if len(wanted) != len(rgb_u8):
        raise FigleafError(f"{len(wanted)} classes for {len(rgb_u8)} pictures: expected one, or one each")
    maps: list[NDArray[np.float32]] = []
    with evaluating(net), torch.enable_grad():
        for start in range(0, len(rgb_u8), batch):
            rows = slice(start, start + batch)
            images = as_images(net, rgb_u8[rows])
            found = METHODS[method].maps(net, images, wanted[rows]).detach().float().cpu()
            maps.append(torch.nan_to_num(found).numpy())
            if on_done is not None:
                on_done(len(images))
    return ClassMaps(method, tuple(wanted), np.concatenate(maps) if maps else np.empty((0, 1, 1), np.float32))


def require_method(net: VGG, method: str) -> None:
    """Raises `FigleafError` for a method that is none, or that `net` has not."""
    if method not in METHODS:
        raise FigleafError(f"method={method}: expected one of {', '.join(METHODS)}")
    if net.head == "dense":
        raise FigleafError("a dense head says of every pixel what it is; class maps are for the fc and gap heads")
    if net.head not in METHODS[method].heads:
        raise FigleafError(f"method={method}: exact CAM needs a gap head, this one is {net.head}; try hirescam")


def methods_of(net: VGG) -> list[str]:
    """The methods that go with the head of `net`."""
    return [name for name, method in METHODS.items() if net.head in method.heads]


def as_images(net: VGG, rgb_u8: NDArray[np.uint8]) -> Tensor:
    """Pictures (N, S, S, 3) as float (N, 3, S, S) in 0-255, where `net` lies."""
    images = torch.from_numpy(np.ascontiguousarray(rgb_u8)).permute(0, 3, 1, 2)
    return images.to(net.normalize.mean.device, torch.float32)


@contextmanager
def evaluating(net: VGG) -> Iterator[None]:
    """In evaluation mode and without gradients of the weights, for as long as it takes."""
    was_training, learning = net.training, [weight for weight in net.parameters() if weight.requires_grad]
    net.eval().requires_grad_(False)
    try:
        yield
    finally:
        net.train(was_training)
        for weight in learning:
            weight.requires_grad_()


def _cam(net: VGG, images: Tensor, classes: Sequence[int]) -> Tensor:
    """Zhou et al. 2016: the maps that the head averages, weighted by the class's row of its matrix."""
    weight = net.layers["predictions"].get_parameter("weight")[list(classes)]
    with torch.no_grad():
        return torch.einsum("nchw,nc->nhw", net.up_to_stage(images, HEAD), weight)


def _hirescam(net: VGG, images: Tensor, classes: Sequence[int]) -> Tensor:
    """Draelos & Carin 2020: activation times gradient, place by place, added over channels."""
    activation = nn.Sequential(net.normalize, *net.features[:-1])(images).requires_grad_()
    logits = net.from_stage(net.features[-1](activation), HEAD)
    (gradient,) = torch.autograd.grad(_chosen(logits, classes), activation)
    found: Tensor = (activation * gradient).sum(dim=1)
    return found


def _torchcam(name: str) -> Callable[[VGG, Tensor, Sequence[int]], Tensor]:
    """A method of torchcam on the last ReLU."""

    def maps(net: VGG, images: Tensor, classes: Sequence[int]) -> Tensor:
        from torchcam import methods

        more = {"batch_size": _INSIDE} if name == "ScoreCAM" else {}
        side = (3, *images.shape[-2:])
        with getattr(methods, name)(net, last_relu(net), input_shape=side, **more) as extractor:
            scores = net(images.clone().requires_grad_())
            (found,) = extractor(list(classes), scores, normalized=False)
        return found.clamp_min(0)  # type: ignore[no-any-return]

    return maps


@torch.no_grad()
def _occlusion(net: VGG, images: Tensor, classes: Sequence[int]) -> Tensor:
    """Zeiler & Fergus 2014: how far the logit falls when a square of the picture becomes its mean colour."""
    from captum.attr import Occlusion

    side = max(2, round(images.shape[-1] * _PATCH))
    step = max(1, side // 2)
    found = Occlusion(net).attribute(
        images,
        sliding_window_shapes=(3, side, side),
        strides=(3, step, step),
        baselines=images.mean(dim=(2, 3), keepdim=True).expand_as(images),
        target=list(classes),
        perturbations_per_eval=max(1, _INSIDE // len(images)),
    )
    return found.mean(dim=1)  # type: ignore[no-any-return]


def _guided_backprop(net: VGG, images: Tensor, classes: Sequence[int]) -> Tensor:
    """Springenberg et al. 2015: gradients that only pass where they and the activations are positive, in absolute size.

    It draws the picture's edges whatever the network has learnt (Adebayo et al. 2018): kept as the example of a map
    that looks right and is not.
    """
    from captum.attr import GuidedBackprop

    with _not_in_place(net), warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that it sets hooks on every ReLU, and takes them off again
        found = GuidedBackprop(net).attribute(images.clone().requires_grad_(), target=list(classes))
    return found.abs().amax(dim=1)  # type: ignore[no-any-return]


@contextmanager
def _not_in_place(net: VGG) -> Iterator[None]:
    """Backward hooks cannot see through activations that overwrite their input."""
    places = [layer for layer in net.modules() if isinstance(layer, nn.ReLU) and layer.inplace]
    for layer in places:
        layer.inplace = False
    try:
        yield
    finally:
        for layer in places:
            layer.inplace = True


def _chosen(logits: Tensor, classes: Sequence[int]) -> Tensor:
    """The sum of each picture's own logit: pictures do not touch each other."""
    return logits.gather(1, torch.tensor(classes, device=logits.device)[:, None]).sum()


@dataclass(frozen=True)
class Method:
    """How a map comes about, which heads have it, and what it is in a few words."""

    maps: Callable[[VGG, Tensor, Sequence[int]], Tensor]
    summary: str
    heads: tuple[str, ...] = ("gap", "fc")


METHODS: Mapping[str, Method] = {
    "cam": Method(_cam, "exact for a gap head: the maps it averages, by the class's weights", ("gap",)),
    "gradcam": Method(_torchcam("GradCAM"), "activations weighted by their mean gradient"),
    "hirescam": Method(_hirescam, "activation times gradient at every place"),
    "gradcam++": Method(_torchcam("GradCAMpp"), "Grad-CAM with weights from higher powers of the gradient"),
    "layercam": Method(_torchcam("LayerCAM"), "activations weighted place by place by positive gradients"),
    "scorecam": Method(_torchcam("ScoreCAM"), "activations weighted by the score of the picture seen through each"),
    "occlusion": Method(_occlusion, "how far the logit falls when a square is hidden"),
    "guided_backprop": Method(_guided_backprop, "edges; fails the sanity check, shown so that it can be seen to"),
}
