"""`figleaf similar`: search by example. Makes an index, answers with the pictures most like a given one, measures."""

import argparse
import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from figleaf.commands.arguments import print_json, require_manifest, say, with_overrides
from figleaf.config import SimilarConfig, TrackingConfig, compose, home, to_dict
from figleaf.errors import FigleafError, printable

if TYPE_CHECKING:
    from figleaf.data.decode import RgbU8
    from figleaf.skin.retrieval import Answer, ImageIndex

USAGE = """\
figleaf similar IMAGE --in INDEX [--count N] [--search auto|exact|approximate] [--picture FILE] [--show]
       figleaf similar --build INDEX [key=value ...]
       figleaf similar --evaluate INDEX [--evaluate INDEX ...] [key=value ...]"""
EPILOG = """\
IMAGE is any picture; it need not be of the collection. The answers are a table on a terminal, JSON lines in a pipe,
and a picture of the query and its answers side by side, heavily blurred unless --show is given.

INDEX is a folder, or a run of `figleaf train model=search_...` by any of its names: run=latest, run=STUDY/ARM-SEED.
features says what a picture is abstracted to: regions (parts found by normalised cuts, described by colour, texture,
shape and place, counted by kind), vgg (pooled features of a network), histogram (of colours, with QBIC's distance),
thumbnail (its principal components), dct (its lowest frequencies).

--evaluate asks an index, or several, with the pictures of a split: mean average precision and precision at 1, 5 and 10,
by slice, with intervals over groups, and every further index against the first. Same label is a hit, and in a second
part same slice; a query's own group and copies of itself never count.

examples:
  figleaf similar --build my_index data=manifest data.manifest=my/manifest.csv
  figleaf similar photo.jpg --in my_index --count 20
  figleaf similar photo.jpg --in run=latest
  figleaf similar --build by_net data=scenes split=train features=vgg run=best:demo
  figleaf similar --build by_color data=scenes split=train features=histogram
  figleaf similar --evaluate by_color --evaluate by_net data=scenes split=test
"""
_RUN = "run="


def main(arguments: Sequence[str]) -> int:
    """Search, build or evaluate."""
    known = with_overrides("similar", "The pictures of an index that are most like a given one.", EPILOG)
    known.usage = USAGE
    known.add_argument("--in", dest="index", metavar="INDEX", help="the index to search")
    known.add_argument("--build", type=Path, metavar="INDEX", help="make an index in this folder, or make it anew")
    known.add_argument("--evaluate", action="append", metavar="INDEX", help="measure an index; repeatable")
    known.add_argument("--count", type=int, default=12, metavar="N", help="how many answers (default: 12)")
    known.add_argument(
        "--search",
        choices=("auto", "exact", "approximate"),
        default="auto",
        help="approximate is faster and misses some; auto takes it beyond 20,000 pictures (default: auto)",
    )
    known.add_argument("--picture", type=Path, metavar="FILE", help="PNG to draw (default: in FIGLEAF_HOME/similar/)")
    known.add_argument("--show", action="store_true", help="do not blur")
    options, rest = known.parse_known_args(arguments)
    options.overrides = [*options.overrides, *rest]
    tasks = [name for name in ("index", "build", "evaluate") if getattr(options, name) is not None]
    if len(tasks) != 1 and not options.print_config:
        raise FigleafError("expected one of: IMAGE --in INDEX, --build INDEX, --evaluate INDEX; see --help")
    if tasks == ["index"]:
        return _search(known, options)
    if wrong := [text for text in options.overrides if text.startswith("-") or "=" not in text]:
        known.error(f"unrecognized arguments: {printable(' '.join(wrong))}; IMAGE goes with --in INDEX")
    # Nothing is calibrated here, so that nothing is cut from train for it unless asked for.
    cut = (
        [] if any(text.startswith("data.calib_fraction=") for text in options.overrides) else ["data.calib_fraction=0"]
    )
    config: SimilarConfig = compose("similar", [*options.overrides, *cut])
    if options.print_config:
        print_json(to_dict(config))
        return 0
    return _build(options.build, config) if tasks == ["build"] else _evaluate(options.evaluate, config)


def _search(known: argparse.ArgumentParser, options: argparse.Namespace) -> int:
    if len(options.overrides) != 1:
        given = printable(", ".join(options.overrides)) or "none"
        known.error(f"expected one IMAGE, given: {given}")
    if options.count < 1:
        raise FigleafError(f"--count {options.count}: expected at least 1")
    import hashlib

    from figleaf.data.decode import DecodeError, decode, quiet_pillow, read_bytes
    from figleaf.skin.retrieval_files import load_index

    file = Path(options.overrides[0]).expanduser()
    try:
        with quiet_pillow():
            content = read_bytes(file)
            rgb_u8 = decode(content)
    except DecodeError as error:
        raise FigleafError(f"{file}: {error.reason}; expected a picture to search with") from error
    index = load_index(_folder(options.index))
    answers = index.nearest(index.encode(rgb_u8), options.count, options.search)
    sha256 = hashlib.sha256(content).hexdigest()
    told = [_told(index, rank, answer, sha256) for rank, answer in enumerate(answers, start=1)]
    picture = _drawn(options, file, sha256, rgb_u8, index, told)
    if sys.stdout.isatty():
        _print_table(told, index)
    else:
        for line in told:
            print(json.dumps(line))  # escaped: a name may be no UTF-8
    say(f"{len(told)} of {len(index):,} pictures by {index.features}; drawn in {printable(str(picture))}")
    return 0


def _folder(index: str, tracking: TrackingConfig | None = None) -> Path:
    """Where an index stands that is named by its folder or by its run."""
    if not index.startswith(_RUN):
        return Path(index).expanduser()
    from figleaf.commands.run_names import index_of, named_run
    from figleaf.tracking.find import SEARCH

    if tracking is None:
        config: SimilarConfig = compose("similar", [])
        tracking = config.tracking
    return index_of(named_run(index.removeprefix(_RUN), tracking, SEARCH))


def _told(index: "ImageIndex", rank: int, answer: "Answer", sha256: str) -> dict[str, Any]:
    row = index.table.iloc[answer.row]
    return {
        "rank": rank,
        "path": str(row["path"]),
        "file": str(index.path(answer.row)),
        "distance": round(answer.distance, 6),
        "label": str(row["label"]),
        "split": str(row["split"]),
        "group": str(row["group"]),
        "slice": str(row["slice"]),
        "same_file": bool(row["content_sha256"] == sha256),
    }


def _drawn(
    options: argparse.Namespace,
    file: Path,
    sha256: str,
    rgb_u8: "RgbU8",
    index: "ImageIndex",
    told: Sequence[dict[str, Any]],
) -> Path:
    """Draw the query and its answers into a PNG, whose path is given."""
    from PIL import Image

    from figleaf.data.decode import DecodeError, decode, quiet_pillow
    from figleaf.files import atomic_path
    from figleaf.skin.answers import Tile, draw_answers

    place: Path | None = options.picture
    if place is None:
        name = re.sub(r"[^\w.-]+", "-", f"{Path(options.index).name}-{sha256[:12]}", flags=re.ASCII)
        place = home() / "similar" / f"{name}.png"
    place = place.expanduser()
    if place.suffix.lower() != ".png":
        raise FigleafError(f"--picture {place}: a PNG is drawn; name a file that ends in .png")
    tiles = []
    for answer in told:
        title = f"{answer['rank']}: {answer['label']}, {answer['distance']:.3f}"
        name = PurePosixPath(answer["path"]).name  # what a tile is wide enough for
        try:
            with quiet_pillow():
                found = decode(Path(answer["file"]))
            tiles.append(Tile(found, title, name))
        except DecodeError as error:
            tiles.append(Tile(None, title, f"{error.reason}: {name}"))
    drawn = draw_answers(Tile(rgb_u8, "query", file.name), tiles, show=options.show)
    with atomic_path(place) as temporary:
        Image.fromarray(drawn).save(temporary, format="PNG")
    return place


def _print_table(told: Sequence[dict[str, Any]], index: "ImageIndex") -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(
        "", "distance", "label", "slice", "path", title=Text(printable(index.data_name)), title_justify="left"
    )
    for line in told:
        note = " (the same file)" if line["same_file"] else ""
        cells = (str(line["rank"]), f"{line['distance']:.4f}", line["label"], line["slice"], line["path"] + note)
        table.add_row(*(Text(printable(cell)) for cell in cells))
    Console().print(table)


def _build(folder: Path, config: SimilarConfig) -> int:
    folder = folder.expanduser()
    require_manifest(config.data)
    _require_network(config)
    from figleaf.data.cache import data_hash
    from figleaf.skin.retrieval import build
    from figleaf.skin.retrieval_files import require_place, save_index
    from figleaf.train.inputs import decode_for, read_manifest

    require_place(folder)
    parameters = _parameters(config)
    manifest = read_manifest(config.data, home())
    if config.split != "all":
        manifest = manifest.select(config.split)
    pictures = decode_for(manifest, parameters["size"], config.data, home())
    digest = data_hash(manifest, pictures.content_sha256)
    index = build(manifest, pictures, config.features, parameters, data_hash=digest)
    save_index(index, folder)
    left_out = len(manifest) - len(index)
    counted = f"{len(index):,} pictures of {printable(manifest.name)}, {left_out} unreadable"
    say(f"{counted}, indexed by {config.features} in {printable(str(folder))}")
    print_json(
        {
            "index": str(folder),
            "features": config.features,
            "pictures": len(index),
            "unreadable": left_out,
            "dimensions": int(index.codes.shape[1]),
            "data_hash": digest,
        }
    )
    return 0


def _require_network(config: SimilarConfig) -> None:
    """A network is named for features=vgg, and for nothing else."""
    named = [key for key in ("run", "weights") if getattr(config, key) is not None]
    if config.features != "vgg" and named:
        raise FigleafError(f"{named[0]}={getattr(config, named[0])}: read with features=vgg only")
    if config.features == "vgg" and len(named) != 1:
        raise FigleafError(
            "features=vgg: pass run=RUN or weights=FILE, one of them; their convolutions are the features"
        )


def _parameters(config: SimilarConfig) -> dict[str, Any]:
    """The parameters of the code, its size among them."""
    from figleaf.skin.retrieval import FEATURES

    parameters: dict[str, Any] = {}
    if config.features == "regions":
        parameters = {"words": config.words, "codebook": config.codebook, "random_state": config.seed}
    if config.features == "histogram":
        parameters = {"distance": config.distance}
    if config.features == "vgg":
        parameters = {"weights": config.weights or _weights_of_run(config)}
    size = config.size if config.size is not None else FEATURES[config.features](**parameters).size
    return {**parameters, "size": size}


def _weights_of_run(config: SimilarConfig) -> str:
    from figleaf.commands.run_names import named_run, weights_of
    from figleaf.skin.storage import is_system

    run = named_run(str(config.run), config.tracking)
    weights = weights_of(run)
    if is_system(weights):
        raise FigleafError(
            f"run={config.run}: {run.name} is a skin system, which has no convolutions; name a network's run"
        )
    return str(weights)


def _evaluate(named: Sequence[str], config: SimilarConfig) -> int:
    require_manifest(config.data)
    from figleaf.evaluate.retrieval import measure
    from figleaf.skin.retrieval_files import load_index
    from figleaf.train.inputs import decode_for, read_manifest

    indexes = {name: load_index(_folder(name, config.tracking)) for name in named}
    manifest = read_manifest(config.data, home())
    if config.split != "all":
        manifest = manifest.select(config.split)
    report = measure(
        indexes,
        manifest,
        lambda size: decode_for(manifest, size, config.data, home()),
        intervals=config.intervals,
    )
    for name, found in report["indexes"].items():
        best = found["same_label"]["all"]["map"]
        say(f"{name}: {found['features']}, mean average precision {best['value']:.4f} over {best['queries']} queries")
    print_json(report)
    return 0
