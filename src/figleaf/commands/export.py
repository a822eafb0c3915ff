"""`figleaf export`: the best checkpoint of a run as files to use elsewhere, each compared with it."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
from numpy.typing import NDArray

from figleaf.commands.arguments import file_name, parse_mixed, print_json, say, with_overrides
from figleaf.config import DataConfig, ExportConfig, compose, from_dict, home, to_dict
from figleaf.errors import FigleafError

if TYPE_CHECKING:
    from figleaf.data.member import File
    from figleaf.evaluate.scorer import Scorer
    from figleaf.export.parity import Quality
    from figleaf.export.tfjs import Dtype

EPILOG = """\
Writes model.safetensors, model.onnx (preprocessing inside, any batch size), model.json, parity.json, MODEL_CARD.md,
DATA_CARD.md (what the run's data hold, as by `figleaf data card`) and SHA256SUMS. Every file must give the checkpoint's
logits on real pictures of the run's test split, from the encoded file on, within `tolerance`. best:STUDY is the best
run, by val, of the arm that the study's table marks with a dagger; best:STUDY:ARM that of another arm.

Smaller files: onnx_float16 has half the bytes, onnx_int8 a quarter and is faster; it learns its scales from
calibration_images pictures of the run's training split. What loses something is scored on the whole val split, and
refused when its AUROC there falls by more than max_drop.

`figleaf export verify FOLDER` looks at an exported folder again: its hashes, and the answers of its files.

format=[pt2] writes a program of torch.export, format=[openvino] a folder for Intel's runtime (pip install
'figleaf[openvino]'). A .pt2 file is code: open only those that you trust.

format=[tfjs] writes the folder tfjs/ for TensorFlow.js: model.json and shards, with layer names of keras.applications,
batch norms folded, RGB 0-255 in and logits out. Its kernels are tfjs_dtype: float16 (half the bytes; probabilities
within 5e-3), uint8 (a quarter; within 5e-2) or float32 (logits within `tolerance`). A dense head, and adaptive_pool
where it is not the identity, have no equal layer there and are refused. format=[keras] writes the same layers as
model.keras, for Keras 3 (pip install 'figleaf[keras]').

examples:
  figleaf export run=best:demo
  figleaf export verify export/demo
  figleaf export run=demo/vgg19_bn-2     a trial: <study>/<arm>-<seed>
  figleaf export run=latest format=[onnx] out=my_model images=some/folder
  figleaf export run=best:demo format=[onnx,onnx_int8,onnx_float16]
  figleaf export run=best:demo format=[onnx,tfjs] tfjs_dtype=float32
"""
SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff"}


def main(arguments: Sequence[str]) -> int:
    """Export."""
    if arguments[:1] == ["verify"]:
        from figleaf.commands.export_verify import main as verify

        return verify(arguments[1:])
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
    out = Path(config.out or Path("export") / file_name(run.name)).expanduser().absolute()
    require_place(out, config.format)
    if config.register is not None:
        _require_registrable(config)
    data = from_dict(settings["data"], DataConfig)
    pictures = _pictures(config, data)
    int8 = "onnx_int8" in config.format
    lossy = int8 or "onnx_float16" in config.format or ("tfjs" in config.format and config.tfjs_dtype != "float32")
    report = export_bundle(
        net,
        out=out,
        formats=config.format,
        facts=facts,
        pictures=pictures,
        tolerance=config.tolerance,
        tfjs_dtype=cast("Dtype", config.tfjs_dtype),
        calibration=_calibration(config, data, net.input_size) if int8 else None,
        quality=_quality(config, data, needed=int8) if lossy else None,
        data_card=_data_card(data),
    )
    quality = report.get("quality", {"formats": {}})
    for name, found in report["formats"].items():
        kept = ""
        if name in quality["formats"]:
            kept = f"; {quality['measure']} {quality['formats'][name]:.4f} of {quality['checkpoint']:.4f}"
        say(
            f"{name}: {report['bytes'][name] / 1e6:.2f} MB; largest logit difference {found['max_logit_diff']:.2g} on "
            f"{found['images']} pictures{kept}"
        )
    say(f"exported {run.name} ({run.run_id}) to {out}")
    if config.register is not None:
        report["registered"] = _registered(out, config)
    print_json(report)
    return 0


def _require_registrable(config: ExportConfig) -> None:
    """Refuse a name that cannot be, and an export without the file that is registered, before there is work to lose."""
    from figleaf.tracking.registry import require_name

    require_name(config.register or "")
    if "onnx" not in config.format:
        raise FigleafError(f"register={config.register}: model.onnx is registered; add onnx to format={config.format}")


def _registered(out: Path, config: ExportConfig) -> str:
    """Register what was exported, and give its address."""
    from figleaf.commands.registering import register
    from figleaf.commands.registry import told
    from figleaf.tracking.store import open_store

    version, is_new = register(out, config.register or "", open_store(config.tracking.uri, home()))
    told(version, is_new)
    return version.uri


def _pictures(config: ExportConfig, data: DataConfig) -> "list[File]":
    """Files to compare on: those of `images`, or an even choice of the run's test split."""
    found: list[File]
    if config.images is not None:
        folder = Path(config.images).expanduser()
        if not folder.is_dir():
            raise FigleafError(f"images={config.images}: no such folder; name one that holds pictures")
        found = [*sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)]
        if not found:
            raise FigleafError(f"images={folder}: no pictures there ({', '.join(sorted(SUFFIXES))})")
    else:
        from figleaf.commands.run_facts import own_manifest

        manifest = own_manifest(data, "to compare on", "pass images=FOLDER to compare on others")
        found = manifest.select("test" if "test" in manifest.splits else "val").paths
    chosen = np.unique(np.linspace(0, len(found) - 1, min(config.parity_images, len(found))).astype(int))
    return [found[index] for index in chosen]


def _data_card(data: DataConfig) -> str | None:
    """What the run's data hold; None, which is said, where they are gone."""
    from figleaf.commands.run_facts import own_manifest
    from figleaf.data.sizes import picture_sizes
    from figleaf.export.data_card import data_card

    try:
        manifest = own_manifest(data, "to describe", "export without a data card")
    except FigleafError as error:
        say(f"no data card: {error}")
        return None
    return data_card(manifest, picture_sizes(manifest))


def _calibration(config: ExportConfig, data: DataConfig, size: int) -> NDArray[np.uint8]:
    """An even choice of the run's training pictures (N, `size`, `size`, 3), in the order of the manifest."""
    from figleaf.commands.run_facts import own_manifest
    from figleaf.train.inputs import decode_for

    manifest = own_manifest(data, "to calibrate on", "leave out onnx_int8").select("train")
    decoded = decode_for(manifest, size, data, home())
    return decoded.evenly(np.flatnonzero(decoded.usable), config.calibration_images)


def _quality(config: ExportConfig, data: DataConfig, needed: bool) -> "Quality | None":
    """What a scorer is worth on the run's val split.

    None, unless it is `needed`, where the pictures are gone or show nothing, being all safe or all unsafe.
    """
    from figleaf.commands.run_facts import own_manifest
    from figleaf.data.cache import data_hash
    from figleaf.evaluate.metrics import metrics
    from figleaf.evaluate.predictions import predict
    from figleaf.export.parity import Quality
    from figleaf.train.inputs import decode_for

    try:
        manifest = own_manifest(data, "of val", "leave out onnx_int8").select("val")
        if len(set(manifest.is_unsafe)) < (2 if manifest.unsafe else 1):
            raise FigleafError(f"{manifest.name}: its val split does not hold pictures of both labels")
    except FigleafError as error:
        if needed:
            raise
        say(f"what the lossy formats lose on val is not measured: {error}")
        return None
    key = "auroc" if manifest.unsafe else "top1"

    def of(scorer: "Scorer") -> float:
        decoded = decode_for(manifest, scorer.input_size, data, home())
        digest = data_hash(manifest, decoded.content_sha256)
        return metrics(predict(scorer, manifest, decoded, data_hash=digest), None)[key]

    return Quality(f"val/{key}", of, config.max_drop)
