"""`figleaf export`: the best checkpoint of a run as files to use elsewhere, each compared with it."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np

from figleaf.commands.arguments import parse_mixed, print_json, say, with_overrides
from figleaf.config import DataConfig, ExportConfig, compose, from_dict, home, to_dict
from figleaf.errors import FigleafError

if TYPE_CHECKING:
    from figleaf.export.tfjs import Dtype

EPILOG = """\
Writes model.safetensors, model.onnx (preprocessing inside, any batch size), model.json, parity.json, MODEL_CARD.md and
SHA256SUMS. Every file must give the checkpoint's logits on real pictures of the run's test split, from the encoded
file on, within `tolerance`. best:STUDY is the best run, by val, of the arm that the study's table marks with a dagger;
best:STUDY:ARM that of another arm.

format=[tfjs] writes the folder tfjs/ for TensorFlow.js: model.json and shards, with layer names of keras.applications,
batch norms folded, RGB 0-255 in and logits out. Its kernels are tfjs_dtype: float16 (half the bytes; probabilities
within 5e-3), uint8 (a quarter; within 5e-2) or float32 (logits within `tolerance`). A dense head, and adaptive_pool
where it is not the identity, have no equal layer there and are refused. format=[keras] writes the same layers as
model.keras, for Keras 3 (pip install 'figleaf[keras]').

examples:
  figleaf export run=best:demo
  figleaf export run=demo/vgg19_bn-2     a trial: <study>/<arm>-<seed>
  figleaf export run=latest format=[onnx] out=my_model images=some/folder
  figleaf export run=best:demo format=[onnx,tfjs] tfjs_dtype=float32
"""
SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff"}


def main(arguments: Sequence[str]) -> int:
    """Export."""
    parser = with_overrides("export", "The best checkpoint of a run, as files to use elsewhere.", EPILOG)
    options = parse_mixed(parser, arguments)
    config: ExportConfig = compose("export", options.overrides)
    if options.print_config:
        print_json(to_dict(config))
        return 0
    from figleaf.commands.run_facts import facts_of, settings_of
    from figleaf.commands.run_names import named_run, weights_of
    from figleaf.export.bundle import export_bundle, require_place
    from figleaf.skin.storage import is_system
    from figleaf.vgg.weights import load

    run = named_run(config.run, config.tracking)
    weights = weights_of(run)
    if is_system(weights):
        raise FigleafError(
            f"run={config.run}: a skin system, which no other runtime can run; its file serves wherever figleaf does: "
            f"`figleaf evaluate run={weights}`"
        )
    net, metadata = load(weights)
    settings = settings_of(run)
    facts = facts_of(run, metadata, settings, config.licence)
    out = Path(config.out or Path("export") / re.sub(r"[^\w.-]+", "-", run.name)).expanduser().absolute()
    require_place(out, config.format)
    pictures = _pictures(config, from_dict(settings["data"], DataConfig))
    report = export_bundle(
        net,
        out=out,
        formats=config.format,
        facts=facts,
        pictures=pictures,
        tolerance=config.tolerance,
        tfjs_dtype=cast("Dtype", config.tfjs_dtype),
    )
    for name, found in report["formats"].items():
        say(f"{name}: largest logit difference {found['max_logit_diff']:.2g} on {found['images']} pictures")
    say(f"exported {run.name} ({run.run_id}) to {out}")
    print_json(report)
    return 0


def _pictures(config: ExportConfig, data: DataConfig) -> list[Path]:
    """Files to compare on: those of `images`, or an even choice of the run's test split."""
    if config.images is not None:
        folder = Path(config.images).expanduser()
        if not folder.is_dir():
            raise FigleafError(f"images={config.images}: no such folder; name one that holds pictures")
        found = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
        if not found:
            raise FigleafError(f"images={folder}: no pictures there ({', '.join(sorted(SUFFIXES))})")
    else:
        from figleaf.train.inputs import read_manifest

        try:
            manifest = read_manifest(data, home())
        except FigleafError as error:
            raise FigleafError(
                f"the run's own pictures, to compare on, cannot be found: {error}; start from the folder that the run "
                "started from, or pass images=FOLDER to compare on others"
            ) from error
        found = manifest.select("test" if "test" in manifest.splits else "val").paths
    chosen = np.unique(np.linspace(0, len(found) - 1, min(config.parity_images, len(found))).astype(int))
    return [found[index] for index in chosen]
