"""`figleaf web`: a page that runs a network in the browser, so that pictures stay where they are."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, cast

from figleaf.commands.arguments import file_name, parse_mixed, print_json, say, with_overrides
from figleaf.config import WebConfig, compose, home, to_dict, web_dir
from figleaf.errors import FigleafError

if TYPE_CHECKING:
    from figleaf.commands.scorers import OpenedNetwork
    from figleaf.evaluate.policy import Policy
    from figleaf.evaluate.predictions import Predictions
    from figleaf.export.facts import ModelFacts
    from figleaf.export.tfjs import Dtype
    from figleaf.serve.page import Gallery
    from figleaf.vgg.network import VGG

EPILOG = """\
Writes a folder for any static server (`python -m http.server --bind 127.0.0.1 -d FOLDER`), and single.html, the same
page as one file that opens by itself. Drop a picture: the network runs in the browser, and shows its score against
the threshold, where it sees a class, what each layer makes of the picture, and what its filters look for.

The page asks for its own files, then closes its policy: from there on the browser refuses it every address. single.html
may ask for nothing from the start. It is added to the run's artifacts as page/single.html, where the MLflow pages show
it; keep=false leaves it out. Weights of more than 64 MiB get a folder only: a full VGG16 with an fc head takes 269 MB
in float16, with a gap head 29 MB.

With policy=FILE, of `figleaf calibrate`, the page calibrates its scores by it and says of each picture what is to be
done: block, blur, review or pass, as `figleaf predict --policy` does; its thresholds cannot be moved there.

TensorFlow.js comes from npm once, in the versions of web/package-lock.json, and is kept in FIGLEAF_HOME.

examples:
  figleaf web run=best:demo
  figleaf web run=latest out=site filters=36 layers=[block3_conv1,block4_conv1]
  figleaf web run=best:demo policy=demo-policy.json
  figleaf web run=model.safetensors filters=0
"""
ARTIFACTS = "page"
_GALLERY_SIZE = 96  # pixels: tiles are shown at about that


def main(arguments: Sequence[str]) -> int:
    """Build the page."""
    known = with_overrides("web", "A page that runs a network in the browser, and sends nothing anywhere.", EPILOG)
    options = parse_mixed(known, arguments)
    config: WebConfig = compose("web", options.overrides)
    if options.print_config:
        print_json(to_dict(config))
        return 0
    from figleaf.commands.scorers import open_network
    from figleaf.explain.layers import require_layers, shown_layers
    from figleaf.export.tfjs import require_tfjs
    from figleaf.serve.engine import engine_files
    from figleaf.serve.page import SINGLE_MAX_BYTES, build_page, require_place

    opened = open_network(config.run, config.tracking, config.device)
    net = opened.scorer.net
    require_tfjs(net)
    policy = _policy(config.policy, opened)
    layers = shown_layers(net) if config.layers is None else list(dict.fromkeys(config.layers))
    require_layers(net, layers)
    out = Path(config.out or Path("page") / file_name(opened.name)).expanduser().absolute()
    require_place(out)
    engine = engine_files(web_dir(), home() / "web")
    gallery = _gallery(config, net, layers)
    built = build_page(
        net.cpu(),
        _facts(opened, config.licence),
        out=out,
        web=web_dir(),
        engine=engine,
        gallery=gallery,
        val=_val(opened),
        dtype=cast("Dtype", config.dtype),
        policy=policy,
    )
    weights = sum(size for name, size in built.files.items() if name.startswith("model/"))
    if built.single is None:
        say(
            f"no single.html: {weights / 2**20:.0f} MiB of weights, and one file may hold {SINGLE_MAX_BYTES // 2**20}; "
            "serve the folder, or make less of them: dtype=uint8, a gap head, or a narrower network"
        )
    report = {
        "run": opened.name,
        "identity": opened.identity,
        "out": str(out),
        "single": None if built.single is None else str(built.single),
        "weights_megabytes": round(weights / 1e6, 2),
        "megabytes": round(sum(built.files.values()) / 1e6, 2),
        "max_probability_diff": built.parity.max_probability_diff,
        "filters": {found.layer: len(found.filters) for found in gallery.found},
        "dead": {found.layer: int(found.dead.sum()) for found in gallery.found},
        "artifact": _kept(opened, built.single) if config.keep else None,
    }
    say(
        f"serve it with `python -m http.server --bind 127.0.0.1 -d {out}`"
        + (f", or open {built.single}" if built.single else "")
    )
    print_json(report)
    return 0


def _policy(path: str | None, opened: "OpenedNetwork") -> "Policy | None":
    if path is None:
        return None
    from figleaf.evaluate.policy import Policy

    file = Path(path).expanduser()
    policy = Policy.load(file)
    run_id = opened.run.run_id if opened.run is not None else opened.metadata.get("run_id")
    policy.require_for(opened.scorer.classes, opened.scorer.unsafe, run_id, file)
    if policy.sha256:
        say(f"policy={path}: made from the scores of another file of this run; its promises hold as far as they agree")
    return policy


def _kept(opened: "OpenedNetwork", single: Path | None) -> str | None:
    """Where the single file is among the run's artifacts; None where there is no run, no file, or no tracker now."""
    if opened.run is None or single is None:
        return None
    try:
        return opened.run.add_artifact(single, ARTIFACTS)
    except FigleafError as error:
        say(f"{error}; the page is built, give the command again to add it")
        return None


def _gallery(config: WebConfig, net: "VGG", layers: Sequence[str]) -> "Gallery":
    from figleaf.explain.filters import RECIPES, maximise
    from figleaf.progress import counting
    from figleaf.serve.page import Gallery

    recipe = RECIPES[config.recipe]
    if config.steps is not None:
        recipe = replace(recipe, steps=config.steps)
    counts = {layer: min(config.filters, net.convolutions[layer].out_channels) for layer in layers}
    size = config.size or min(net.input_size, _GALLERY_SIZE)
    with counting("filters", recipe.steps * sum(counts.values())) as done:
        found = [
            maximise(net, layer, range(count), recipe, size=size, seed=config.seed, on_step=done)
            for layer, count in counts.items()
        ]
    return Gallery(found, config.recipe, recipe.steps)


def _val(opened: "OpenedNetwork") -> "Predictions | None":
    """The run's predictions on val; None, said to the user, where a page has to do without."""
    from figleaf.evaluate.predictions import Predictions

    if opened.run is None:
        return None
    try:
        return Predictions.load(opened.run.artifact("predictions.parquet")).select(split="val", variant="clean")
    except FigleafError as error:
        say(f"{error}; the page cannot say what a threshold does")
        return None


def _facts(opened: "OpenedNetwork", licence: str) -> "ModelFacts":
    from figleaf.commands.run_facts import facts_of, settings_of
    from figleaf.export.facts import ModelFacts

    if opened.run is not None:
        return facts_of(opened.run, opened.metadata, settings_of(opened.run), licence)
    known = opened.metadata
    return ModelFacts(
        name=str(known.get("run_name", opened.name)),
        run_id=str(known.get("run_id", "")),
        classes=tuple(opened.scorer.classes),
        unsafe=tuple(opened.scorer.unsafe),
        data_name=str(known.get("data_name", "unknown data")),
        data_hash=str(known.get("data_hash", "")),
        threshold=opened.threshold,
        git_commit=str(known.get("git_commit", "")),
        licence=licence or str(known.get("licence", "")),
    )
