"""`figleaf report`: a run on one page."""

from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from figleaf.commands.arguments import file_name, parse_mixed, print_json, say, with_overrides
from figleaf.config import DataConfig, ReportConfig, compose, from_dict, home, to_dict
from figleaf.errors import FigleafError

if TYPE_CHECKING:
    from figleaf.data.member import File
    from figleaf.evaluate.predictions import Predictions
    from figleaf.explain.report import ErrorGroup, ErrorPicture
    from figleaf.tracking.find import FoundRun
    from figleaf.vgg.network import VGG

EPILOG = """\
Writes one HTML file that opens anywhere and asks for nothing: metrics with intervals, learning curves, ROC,
precision-recall and reliability, what became of the pictures by label, slices, and the errors that the run was surest
of, with class maps beside them where it is a network. The pictures are blurred for good unless show=true, and covered
then until asked. The page is kept with the run's artifacts, where the MLflow pages show it.

examples:
  figleaf report run=best:demo
  figleaf report run=latest errors=40 map=hirescam show=true keep=false out=look.html
"""
_SIDE = 160  # of the pictures in the page


def main(arguments: Sequence[str]) -> int:
    """Write the report."""
    known = with_overrides("report", "A run on one page.", EPILOG)
    options = parse_mixed(known, arguments)
    config: ReportConfig = compose("report", options.overrides)
    if options.print_config:
        print_json(to_dict(config))
        return 0
    from figleaf.commands.run_facts import settings_of
    from figleaf.commands.run_names import named_run
    from figleaf.evaluate.figures import CURVE_PANELS
    from figleaf.evaluate.predictions import Predictions
    from figleaf.explain.cam import require_method
    from figleaf.explain.report import report_page
    from figleaf.export.card import metric_rows
    from figleaf.files import write_text

    run = named_run(config.run, config.tracking)
    every = Predictions.load(run.artifact("predictions.parquet"))
    split = "test" if (every.table["split"] == "test").any() else "val"
    predictions = every.select(split=split)
    if not len(predictions.scored):
        raise FigleafError(f"run={config.run}: no picture of its {split} split was scored; there is nothing to report")
    settings = settings_of(run)
    threshold = run.metrics.get("val/threshold")
    net = _network(run)
    method = config.map or (None if net is None else {"gap": "cam", "fc": "hirescam"}.get(net.head))
    if net is not None and method is not None:
        require_method(net, method)
    elif config.map is not None:
        raise FigleafError(f"map={config.map}: a skin system has no class maps; leave it out")
    default = Path("report") / (file_name(run.name) + ".html")
    out = Path(config.out or default).expanduser().absolute()
    if out.is_dir():
        raise FigleafError(f"out={out}: a folder; name a file, such as {out / 'report.html'}")
    data = from_dict(settings["data"], DataConfig)
    page = report_page(
        name=run.name,
        run_id=run.run_id,
        description=_description(net, settings),
        predictions=predictions,
        metrics=metric_rows(run.metrics),
        threshold=threshold,
        history={key: run.history(key) for keys in CURVE_PANELS.values() for key in keys},
        errors=_errors(predictions, threshold, config, data, net, method),
        facts=_facts(run, every),
        split=split,
        method=method,
        shown=config.show,
    )
    write_text(out, page)
    artifact = None
    if config.keep:
        try:
            artifact = run.add_artifact(out, "report")
        except FigleafError as error:
            say(f"not kept with the run: {error}")
    say(f"open {out}")
    print_json({"run": run.name, "run_id": run.run_id, "page": str(out), "artifact": artifact})
    return 0


def _network(run: "FoundRun") -> "VGG | None":
    """The network behind a run; None for a skin system."""
    from figleaf.commands.run_names import weights_of
    from figleaf.skin.storage import is_system
    from figleaf.vgg.weights import load

    weights = weights_of(run)
    return None if is_system(weights) else load(weights)[0]


def _description(net: "VGG | None", settings: dict[str, Any]) -> str:
    if net is None:
        return f"A skin system, {settings['model'].get('system', 'unnamed')}"
    from figleaf.vgg.described import described

    return f"A {described(net)}, {net.head} head, for {net.input_size} x {net.input_size} pixels"


def _facts(run: "FoundRun", every: "Predictions") -> list[tuple[str, str]]:
    told = (run.tags.get(f"figleaf.{key}", "") for key in ("study", "arm", "seed"))
    dirty = ", with uncommitted changes" if run.tags.get("figleaf.git_dirty") == "true" else ""
    return [
        ("run", run.run_id),
        ("study", "/".join(filter(None, told)) or "none"),
        ("data", f"{every.data_name}, {every.data_hash}"),
        ("code", (run.tags.get("figleaf.git_commit") or "unknown") + dirty),
    ]


def _errors(
    predictions: "Predictions",
    threshold: float | None,
    config: ReportConfig,
    data: DataConfig,
    net: "VGG | None",
    method: str | None,
) -> list["ErrorGroup"]:
    """The surest errors with their pictures, where the data are still to be found."""
    from figleaf.explain.report import ErrorGroup, given_classes, surest_errors
    from figleaf.progress import track
    from figleaf.train.inputs import read_manifest

    groups = surest_errors(predictions, threshold, config.errors)
    files: dict[str, File] = {}
    why = "its picture cannot be found: the manifest does not name it"
    try:
        if any(len(rows) for _, rows in groups):
            manifest = read_manifest(data, home())
            files = dict(zip(manifest.table["path"], manifest.paths, strict=True))
    except FigleafError as error:
        why = f"its picture cannot be found: {error}"
        say(f"the report has no pictures: {error}")
    found = []
    for (title, rows), classes in zip(groups, given_classes(predictions), strict=True):
        pictures = [
            _picture(row, files.get(str(row["sample_id"])), why, config, net, method, classes)
            for row in track(list(rows.to_dict("records")), title, total=len(rows))
        ]
        found.append(ErrorGroup(title, rows.attrs["total"], pictures))
    return found


def _picture(
    row: Mapping[Hashable, Any],
    file: "File | None",
    why: str,
    config: ReportConfig,
    net: "VGG | None",
    method: str | None,
    classes: Sequence[int],
) -> "ErrorPicture":
    """One error; its map is of the likeliest of `classes`."""
    from hashlib import sha256

    import numpy as np

    from figleaf.data.decode import DecodeError, decode, quiet_pillow, read_bytes, resize
    from figleaf.explain.cam import as_images, class_maps, evaluating
    from figleaf.explain.report import ErrorPicture
    from figleaf.explain.visualisation import overlay
    from figleaf.skin.answers import blurred

    who = (str(row["sample_id"]), str(row["slice"]), str(row["label"]), float(row["score"]))
    if file is None:
        return ErrorPicture(*who, None, None, why)
    try:
        content = read_bytes(file)
        if row["content_sha256"] and sha256(content).hexdigest() != row["content_sha256"]:
            return ErrorPicture(*who, None, None, "the file has changed since")
        with quiet_pillow():
            whole = decode(content)
    except DecodeError as error:
        return ErrorPicture(*who, None, None, f"its picture cannot be shown: {error.reason}")
    height, width = (max(1, round(side * _SIDE / max(whole.shape[:2]))) for side in whole.shape[:2])
    view = resize(whole, (height, width))
    drawn = view if config.show else blurred(view)
    if net is None or method is None:
        return ErrorPicture(*who, drawn, None)
    seen = resize(whole, net.input_size)
    with evaluating(net):
        logits = net(as_images(net, seen[None]))[0]
    given = max(classes, key=lambda index: float(logits[index]))
    shown = class_maps(net, seen[None], given, method).shown(_SIDE)[0]
    base = resize(seen, _SIDE)
    return ErrorPicture(*who, drawn, overlay(base if config.show else blurred(base), np.asarray(shown)))
