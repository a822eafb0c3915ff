"""`figleaf data`: index a folder, check files and leaks, fill the cache, cut a split, write shards or a data card."""

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from figleaf.commands.arguments import parser, print_json
from figleaf.config import CheckConfig, compose, home
from figleaf.errors import FigleafError
from figleaf.files import write_text

if TYPE_CHECKING:
    from figleaf.data.manifest import Manifest

EPILOG = """\
examples:
  figleaf data index my_images --unsafe nsfw         writes my_images/manifest.csv from its class folders
  figleaf data check my_images/manifest.csv          bad files, duplicates, leaks; exit code 1 when there are any
  figleaf data cache my_images/manifest.csv 64       decode now, so that runs at 64 pixels start at once
  figleaf data cut my_images/manifest.csv --out with_calib.csv --fraction 0.1
  figleaf data card my_images/manifest.csv           what they hold, as DATA_CARD.md
  figleaf data shard my_images/manifest.csv --out shards     a few large files in place of many small ones

`figleaf data index --help`, and so on, tells every option.
"""
INDEX = """\
FOLDER holds a folder a class, FOLDER/<class>/image.jpg, or these in folders of splits, FOLDER/<split>/<class>/image.jpg
with the splits train, val, test, calib. Splits that are missing are cut from train. The manifest is never overwritten.

examples:
  figleaf data index my_images --unsafe nsfw
  figleaf data index my_images --group '(.*)_\\d+'    a_1.jpg and a_2.jpg are of the group a and stay in one split
  figleaf data index digits --unsafe                 no class is unsafe
  figleaf data index photos --out lists/photos.parquet --val 0.1 --test 0.2 --seed 7
"""
SAMPLES = """\
SAMPLES is a manifest file, or key=value for conf/check.yaml: data=PRESET, every data.KEY and augment.KEY that
`figleaf train --help` lists, and input_size (pixels a side, default 64).
"""
CHECK = f"""\
Tells files that cannot be used, groups and pictures in several splits, and pictures with several labels. The whole
report is one JSON object on standard output; the exit code is 1 when there is something to mend.

{SAMPLES}
examples:
  figleaf data check my_images/manifest.csv
  figleaf data check my_images/manifest.csv data.max_pixels=20000000 --workers 4
  figleaf data check data=scenes augment=pca --augment
"""
CACHE = f"""\
Runs decode what is missing themselves: this does it beforehand, once for every size. The cache lies in
FIGLEAF_HOME/cache and takes 3 bytes a pixel; data.cache_gb (default 20) limits it.

{SAMPLES}
examples:
  figleaf data cache my_images/manifest.csv               at 64 x 64 pixels
  figleaf data cache data=scenes data.count=500 64 96
"""
CUT = f"""\
Writes a new manifest in which part of a split is another one: whole groups, the classes in proportion.

{SAMPLES}
examples:
  figleaf data cut my_images/manifest.csv --out with_calib.csv --fraction 0.1
  figleaf data cut my_images/manifest.csv --out less.parquet --source val --target spare --fraction 0.5 --seed 3
"""
CARD = f"""\
Writes what a data set holds as Markdown: counts by split, class, slice and group, the share of unsafe pictures, their
sizes, the manifest's hash, the licence (of a column `licence`, or by --licence), what was checked, and what the data
are not for. No file and no group is named. `figleaf export` puts the card of a run's data beside the model's.

{SAMPLES}
examples:
  figleaf data card my_images/manifest.csv
  figleaf data card my_images/manifest.csv --check --licence 'CC BY 4.0' --out cards/mine.md
"""
SHARD = f"""\
Copies the encoded files, as they are, with their masks and what the manifest says of them, into tar files as WebDataset
lays them out, and writes beside them shards.json (each shard's samples, size and SHA-256) and manifest.csv. That
manifest is used like any other and gives the same runs: same data hash, same weights. A file that cannot be read has
its place with the reason. The same files give the same bytes; stopped, the same command goes on where it was.

{SAMPLES}
examples:
  figleaf data shard my_images/manifest.csv --out shards
  figleaf data shard data=scenes --out shards --mb 32
  figleaf train data=manifest data.manifest=shards/manifest.csv
  figleaf predict shards --model export/demo/model.onnx --out scores.parquet
"""


def main(arguments: Sequence[str]) -> int:
    """Index, check, cache, cut, shard or describe."""
    known = _parser()
    options = known.parse_args(arguments)
    if options.action == "index" and options.folder is None:
        known.error("FOLDER is missing; it stands before --unsafe, which takes all names behind it")
    from figleaf.data import commands

    if options.action == "index":
        return commands.index(
            options.folder,
            options.out,
            group_pattern=options.group,
            val_fraction=options.val,
            test_fraction=options.test,
            seed=options.seed,
            unsafe=options.unsafe,
            name=options.name,
        )
    from figleaf.train.inputs import read_manifest

    is_size = options.action == "cache"
    sizes = [int(text) for text in options.samples if is_size and text.isdigit()]
    if any(size < 1 for size in sizes):
        raise FigleafError(f"size={min(sizes)}: expected at least 1 pixel")
    config = _samples([text for text in options.samples if not (is_size and text.isdigit())])
    manifest = read_manifest(config.data, home())
    if options.action == "check":
        geometry = None
        if options.augment:
            from figleaf.data.view import Geometry

            a = config.augment
            geometry = Geometry(config.input_size, a.translate, a.larger, a.reflect, a.scale_min)
        return commands.check(manifest, max_pixels=config.data.max_pixels, workers=options.workers, geometry=geometry)
    if options.action == "cache":
        return commands.cache(
            manifest,
            sizes or [config.input_size],
            folder=home() / "cache",
            max_pixels=config.data.max_pixels,
            limit_bytes=int(config.data.cache_gb * 1e9),
        )
    if options.action == "card":
        return _card(manifest, options, config.data.max_pixels)
    if options.action == "shard":
        return commands.shard(
            manifest, options.out.expanduser(), shard_bytes=options.mb * 1_000_000, workers=options.workers
        )
    return commands.cut(
        manifest,
        options.out,
        source=options.source,
        target=options.target,
        fraction=options.fraction,
        seed=options.seed,
    )


def _card(manifest: "Manifest", options: argparse.Namespace, max_pixels: int) -> int:
    from figleaf.data.check import check
    from figleaf.data.sizes import picture_sizes
    from figleaf.export.data_card import MARK, data_card

    out: Path = options.out
    if out.is_dir():
        raise FigleafError(f"--out {out}: a folder; name a file in it, such as {out / 'DATA_CARD.md'}")
    if out.exists() and not out.read_bytes().startswith(MARK.encode()):
        raise FigleafError(f"--out {out}: is there, and figleaf did not write it; name another file")
    report = check(manifest, max_pixels=max_pixels) if options.check else None
    write_text(out, data_card(manifest, picture_sizes(manifest), report, options.licence))
    print_json({"card": str(out), "hash": manifest.hash, "samples": len(manifest)})
    return 0


def _is_file(text: str) -> bool:
    try:
        return Path(text).exists()
    except OSError:  # a list of many classes is longer than any file's name
        return False


def _parser() -> argparse.ArgumentParser:
    known = parser("data", "From a folder of pictures to a checked manifest.", EPILOG)
    actions = known.add_subparsers(dest="action", required=True, metavar="index|check|cache|cut|shard|card")

    def action(name: str, summary: str, epilog: str, usage: str | None = None) -> argparse.ArgumentParser:
        return actions.add_parser(
            name,
            help=summary,
            description=f"{summary.capitalize()}.",
            epilog=epilog,
            usage=usage,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )

    index = action(
        "index",
        "write the manifest of a folder of class folders",
        INDEX,
        "figleaf data index FOLDER [--unsafe [CLASS ...]] [--out FILE] [--group REGEX] [--val FRACTION]\n"
        "                          [--test FRACTION] [--seed INT] [--name NAME]",
    )
    # Not required here, for a better word when --unsafe has taken it.
    index.add_argument("folder", type=Path, metavar="FOLDER", nargs="?", help="the folder that holds the pictures")
    index.add_argument(
        "--out",
        type=Path,
        metavar="FILE",
        help="the manifest to write, CSV, or Parquet when it ends in .parquet (default: FOLDER/manifest.csv)",
    )
    index.add_argument(
        "--group",
        metavar="REGEX",
        help="searched in each file's name; its first bracket is the sample's group, whose pictures stay in one split "
        "(default: each picture is a group of its own)",
    )
    for split in ("val", "test"):
        index.add_argument(
            f"--{split}",
            type=fraction,
            default=0.15,
            metavar="FRACTION",
            help=f"share of the pictures, 0 <= x < 1, to cut when there is no {split} folder; 0: none (default: 0.15)",
        )
    index.add_argument("--seed", type=whole_number, default=0, metavar="INT", help="chooses what is cut (default: 0)")
    index.add_argument(
        "--unsafe",
        nargs="*",
        metavar="CLASS",
        help="the classes that count as unsafe, behind FOLDER; without a name: none (default: those called nsfw, "
        "unsafe, porn, hentai, sexy, nude or explicit)",
    )
    index.add_argument("--name", help="what tables call the data (default: the folder's name)")

    check = action("check", "find bad files, duplicates and leaks across splits", CHECK)
    check.add_argument("samples", nargs="+", metavar="SAMPLES", help="a manifest file, key=value, or both; see below")
    check.add_argument(
        "--augment",
        action="store_true",
        help="also count how often augmentation changes a label; takes masks in the manifest (default: do not)",
    )
    check.add_argument(
        "--workers",
        type=positive_number,
        metavar="INT",
        help="threads that decode (default: as many as this process may use cores)",
    )

    cache = action("cache", "decode the pictures into the cache", CACHE)
    cache.add_argument(
        "samples",
        nargs="+",
        metavar="SAMPLES|SIZE",
        help="a manifest file or key=value, see below; and sides in pixels, one or more (default: input_size, 64)",
    )

    cut = action("cut", "move part of a split to a new one, by group", CUT)
    cut.add_argument("samples", nargs="+", metavar="SAMPLES", help="a manifest file, key=value, or both; see below")
    cut.add_argument(
        "--out",
        type=Path,
        required=True,
        metavar="FILE",
        help="the manifest to write, CSV, or Parquet when it ends in .parquet; never overwritten (required)",
    )
    cut.add_argument("--source", default="train", metavar="SPLIT", help="the split to take from (default: train)")
    cut.add_argument("--target", default="calib", metavar="SPLIT", help="the new split (default: calib)")
    cut.add_argument(
        "--fraction",
        type=fraction,
        default=0.1,
        metavar="FRACTION",
        help="share of the source's pictures, 0 < x < 1, as near as whole groups come to it (default: 0.1)",
    )
    cut.add_argument("--seed", type=whole_number, default=0, metavar="INT", help="chooses the groups (default: 0)")

    card = action("card", "describe a data set: a data card in Markdown", CARD)
    card.add_argument("samples", nargs="+", metavar="SAMPLES", help="a manifest file, key=value, or both; see below")
    card.add_argument(
        "--out",
        type=Path,
        default=Path("DATA_CARD.md"),
        metavar="FILE",
        help="the card to write, in place of an earlier one (default: DATA_CARD.md)",
    )
    card.add_argument(
        "--check", action="store_true", help="run `figleaf data check`, and say what it found (default: do not)"
    )
    card.add_argument("--licence", default="", metavar="TEXT", help="of the pictures (default: the manifest's column)")

    shard = action("shard", "copy the pictures into a few large files", SHARD)
    shard.add_argument("samples", nargs="+", metavar="SAMPLES", help="a manifest file, key=value, or both; see below")
    shard.add_argument(
        "--out", type=Path, required=True, metavar="FOLDER", help="a new folder for the shards (required)"
    )
    shard.add_argument(
        "--mb",
        type=positive_number,
        default=128,
        metavar="INT",
        help="megabytes of files in a shard, and at most 10,000 samples; what one worker takes at once (default: 128)",
    )
    shard.add_argument(
        "--workers",
        type=positive_number,
        metavar="INT",
        help="threads that read (default: as many as this process may use cores)",
    )
    return known


def fraction(text: str) -> float:
    """0 <= x < 1, from the command line; argparse names the kind of number by this function."""
    value = float(text)
    if not 0 <= value < 1:
        raise argparse.ArgumentTypeError(f"{text}: expected 0 <= x < 1")
    return value


def whole_number(text: str) -> int:
    """0 or more."""
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"{text}: expected 0 or more")
    return value


def positive_number(text: str) -> int:
    """1 or more."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text}: expected 1 or more")
    return value


def _samples(given: Sequence[str]) -> CheckConfig:
    """The configuration of a manifest path or of overrides; no calib split is cut unless asked for."""
    files = [text for text in given if "=" not in text or _is_file(text)]
    overrides = [text for text in given if text not in files]
    if not given:
        raise FigleafError("no samples given: pass a manifest file or an override such as data=scenes")
    if len(files) > 1:
        raise FigleafError(f"{files[1]}: a second manifest beside {files[0]}; pass one at a time")
    if not any(text.startswith("data.calib_fraction=") for text in overrides):
        overrides.append("data.calib_fraction=0")
    config: CheckConfig = compose("check", overrides)
    if files and config.data.source != "manifest":
        raise FigleafError(f"{files[0]}: a manifest beside data.source={config.data.source}; pass one or the other")
    # Set here and not by an override, whose grammar gives quotes, commas and brackets in a path a meaning.
    return replace(config, data=replace(config.data, manifest=files[0])) if files else config
