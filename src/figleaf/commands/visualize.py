"""`figleaf visualize`: what a network's filters look for, what they find in a picture, where it sees a class."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from figleaf.commands.arguments import file_name, parse_mixed, print_json, say, with_overrides
from figleaf.config import DataConfig, VisualizeConfig, compose, from_dict, home, to_dict
from figleaf.errors import FigleafError

if TYPE_CHECKING:
    from figleaf.commands.scorers import OpenedNetwork
    from figleaf.data.decode import RgbU8
    from figleaf.explain.filters import FilterPictures, Recipe
    from figleaf.explain.visualisation import Look, Network
    from figleaf.vgg.network import VGG

EPILOG = """\
Writes a folder: filters/ holds what each filter looks for, found by gradient ascent; activation/ what the filters make
of the picture, and the class maps over it; both with a manifest. index.html shows them all, needs no other file and
asks for none. The picture and what is made of it stay blurred there until the box is ticked: keep the folder where the
picture may be kept.

Maps, all of them for a logit:
  cam              exact, for gap heads; the default there
  hirescam         activation times gradient; the default for fc heads
  gradcam, gradcam++, layercam, scorecam, occlusion
  guided_backprop  edges; it fails the sanity check, and is there so that it can be seen to

examples:
  figleaf visualize run=best:demo image=photo.jpg filters=18
  figleaf visualize run=latest image=photo.jpg maps=[cam,gradcam,occlusion] class_name=nsfw
  figleaf visualize run=latest layers=[block3_conv1] filters=64 order=selective out=block3
  figleaf visualize run=model.safetensors recipe=classic seed=1
"""
_SELECTIVE_AT_MOST = 512  # pictures: the means of the classes need no more


def main(arguments: Sequence[str]) -> int:
    """Visualise."""
    known = with_overrides("visualize", "What a network's filters look for, and what it sees in a picture.", EPILOG)
    options = parse_mixed(known, arguments)
    config: VisualizeConfig = compose("visualize", options.overrides)
    if options.print_config:
        print_json(to_dict(config))
        return 0
    if config.image is not None and not Path(config.image).expanduser().exists():
        raise FigleafError(f"image={config.image}: no such file")
    from figleaf.commands.scorers import open_network
    from figleaf.explain.cam import require_method
    from figleaf.explain.layers import require_layers, shown_layers
    from figleaf.explain.visualisation import write_visualisation

    opened = open_network(config.run, config.tracking, config.device)
    net = opened.scorer.net
    layers = shown_layers(net) if config.layers is None else list(dict.fromkeys(config.layers))
    require_layers(net, layers)
    methods = _methods(net) if config.maps is None else list(dict.fromkeys(config.maps))
    for method in methods:
        require_method(net, method)
    if config.class_name is not None and config.class_name not in opened.scorer.classes:
        raise FigleafError(f"class_name={config.class_name}: expected one of {', '.join(opened.scorer.classes)}")
    out = Path(config.out or Path("visualize") / file_name(opened.name)).expanduser().absolute()
    if out.is_file():
        raise FigleafError(f"out={out}: a file, not a folder; name another one")
    picture = None if config.image is None else _picture(config.image, net.input_size)

    channels = _channels(config, opened, layers)
    filters, recipe = _filters(config, net, channels)
    look = None
    if picture is not None:
        look = _look(Path(str(config.image)).name, picture, opened, channels, methods, config.class_name)
    settings = {
        "recipe": config.recipe,
        "steps": recipe.steps,
        "objective": config.objective,
        "seed": config.seed,
        "size": config.size or net.input_size,
    }
    files = write_visualisation(out, _network(opened), filters, look, settings=settings, order=_ORDERS[config.order])
    dead = {found.layer: int(found.dead.sum()) for found in filters}
    report = {
        "run": opened.name,
        "identity": opened.identity,
        "page": str(out / files[-1]),
        "files": len(files),
        "filters": {found.layer: list(found.filters) for found in filters},
        "dead": dead,
        "score": None if look is None else look.score,
        "probabilities": None if look is None else dict(zip(opened.scorer.classes, look.probabilities, strict=True)),
        "silent_maps": [] if look is None else [found.method for found in look.maps if found.silent[0]],
    }
    if any(dead.values()):
        say(f"dead filters: {', '.join(f'{layer} {count}' for layer, count in dead.items() if count)}")
    say(f"open {out / files[-1]}")
    print_json(report)
    return 0


_ORDERS = {
    "first": "The first channels of each layer are shown.",
    "selective": "The channels that prefer one class most are shown first (class selectivity index, on val pictures).",
}


def _methods(net: "VGG") -> list[str]:
    return {"gap": ["cam", "hirescam"], "fc": ["hirescam", "gradcam"]}.get(net.head, [])


def _picture(image: str, size: int) -> "RgbU8":
    """The picture (S, S, 3) as the network sees it."""
    from figleaf.data.decode import DecodeError, decode_resized, quiet_pillow

    try:
        with quiet_pillow():
            return decode_resized(Path(image).expanduser(), size)
    except DecodeError as error:
        raise FigleafError(f"image={image}: {error.reason}; expected a picture") from error


def _channels(config: VisualizeConfig, opened: "OpenedNetwork", layers: Sequence[str]) -> dict[str, list[int]]:
    """The channels of each layer, in the order in which they are shown."""
    from figleaf.explain.activations import first_channels, most_selective, selectivity

    net = opened.scorer.net
    if config.order == "first":
        return first_channels(net, layers, config.filters)
    if opened.run is None:
        raise FigleafError("order=selective: needs the val pictures of a run; name a run, or pass order=first")
    import numpy as np

    from figleaf.commands.run_facts import settings_of
    from figleaf.progress import counting
    from figleaf.train.inputs import decode_for, read_manifest

    data = from_dict(settings_of(opened.run)["data"], DataConfig)
    try:
        manifest = read_manifest(data, home()).select("val")
    except FigleafError as error:
        raise FigleafError(f"order=selective: the run's val pictures cannot be found: {error}") from error
    pictures = decode_for(manifest, net.input_size, data, home())
    readable = np.flatnonzero(pictures.usable)
    chosen = readable[np.unique(np.linspace(0, len(readable) - 1, _SELECTIVE_AT_MOST).astype(int))]
    labels = manifest.labels[chosen]
    with counting("selectivity", len(chosen)) as done:
        index = selectivity(net, layers, np.asarray(pictures.pixels[chosen]), labels, on_done=done)
    return most_selective(index, config.filters)


def _filters(
    config: VisualizeConfig, net: "VGG", channels: dict[str, list[int]]
) -> tuple[list["FilterPictures"], "Recipe"]:
    from figleaf.explain.filters import RECIPES, maximise
    from figleaf.progress import counting

    recipe = RECIPES[config.recipe]
    if config.steps is not None:
        recipe = replace(recipe, steps=config.steps)
    total = recipe.steps * sum(len(chosen) for chosen in channels.values())
    with counting("filters", total) as done:
        found = [
            maximise(
                net,
                layer,
                chosen,
                recipe,
                objective=config.objective,
                size=config.size,
                seed=config.seed,
                on_step=done,
            )
            for layer, chosen in channels.items()
        ]
    return found, recipe


def _look(
    name: str,
    rgb_u8: "RgbU8",
    opened: "OpenedNetwork",
    channels: dict[str, list[int]],
    methods: Sequence[str],
    class_name: str | None,
) -> "Look":
    from scipy.special import softmax

    from figleaf.evaluate.predictions import prob_unsafe
    from figleaf.explain.activations import activation_tiles
    from figleaf.explain.cam import class_maps
    from figleaf.explain.visualisation import Look
    from figleaf.progress import track

    scorer = opened.scorer
    logits = scorer.logits(rgb_u8[None])
    chosen = int(logits[0].argmax()) if class_name is None else scorer.classes.index(class_name)
    score = float(prob_unsafe(logits, scorer.classes, scorer.unsafe)[0]) if scorer.unsafe else None
    maps = [class_maps(scorer.net, rgb_u8[None], chosen, method) for method in track(methods, "class maps")]
    probabilities = tuple(softmax(logits[0].astype("float64")).tolist())
    return Look(name, rgb_u8, probabilities, score, activation_tiles(scorer.net, rgb_u8, channels), maps)


def _network(opened: "OpenedNetwork") -> "Network":
    from figleaf.explain.visualisation import Network
    from figleaf.vgg.described import described

    net, scorer = opened.scorer.net, opened.scorer
    data = opened.metadata.get("data_name")
    return Network(
        name=opened.name,
        description=f"{described(net)}, {net.head} head",
        classes=scorer.classes,
        unsafe=scorer.unsafe,
        input_size=net.input_size,
        threshold=opened.threshold,
        data=data,
        is_proxy="proxy" in str(data).lower(),
    )
