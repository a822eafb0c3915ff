"""`figleaf data`: index a folder, check files and leaks, fill the cache, cut a split."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from figleaf.commands.arguments import parser
from figleaf.config import CheckConfig, compose, home
from figleaf.errors import FigleafError

EPILOG = """\
examples:
  figleaf data index my_images                       writes my_images/manifest.csv from its class folders
  figleaf data index my_images --group '(.*)_\\d+'    pictures named alike stay in one split
  figleaf data check my_images/manifest.csv          bad files, duplicates, leaks; exit code 1 when there are any
  figleaf data check data=scenes --augment           how often augmentation carries a picture over the label's rule
  figleaf data cache data=scenes 64 96               decode now, so that runs start at once
  figleaf data cut my_images/manifest.csv --out with_calib.csv --fraction 0.1

SAMPLES is a manifest file, or overrides of conf/check.yaml such as data=scenes.
"""


def main(arguments: Sequence[str]) -> int:
    """Index, check, cache or cut."""
    known = parser("data", "From a folder of pictures to a checked manifest.", EPILOG)
    actions = known.add_subparsers(dest="action", required=True, metavar="index|check|cache|cut")
    index = actions.add_parser("index", help="a manifest of the class folders in a folder")
    index.add_argument("folder", type=Path)
    index.add_argument("--out", type=Path, help="default: FOLDER/manifest.csv; .parquet for Parquet")
    index.add_argument(
        "--group", metavar="REGEX", help="its first group, matched on file names, names the sample group"
    )
    index.add_argument("--val", type=float, default=0.15, help="fraction to cut when there is no val folder")
    index.add_argument("--test", type=float, default=0.15, help="fraction to cut when there is no test folder")
    index.add_argument("--seed", type=int, default=0)
    index.add_argument(
        "--unsafe", nargs="*", metavar="CLASS", help="the classes that are unsafe; none given: no class is"
    )
    index.add_argument("--name", help="how tables call the data; default: the folder's name")
    check = actions.add_parser("check", help="bad files, duplicates, leaks across splits")
    check.add_argument("samples", nargs="+", metavar="SAMPLES")
    check.add_argument("--augment", action="store_true", help="also how often augmentation changes a label, on masks")
    check.add_argument("--workers", type=int)
    cache = actions.add_parser("cache", help="decode into the cache")
    cache.add_argument("samples", nargs="+", metavar="SAMPLES|SIZE", help="samples, and sides in pixels")
    cut = actions.add_parser("cut", help="move part of a split to a new one, by group")
    cut.add_argument("samples", nargs="+", metavar="SAMPLES")
    cut.add_argument("--out", type=Path, required=True)
    cut.add_argument("--source", default="train")
    cut.add_argument("--target", default="calib")
    cut.add_argument("--fraction", type=float, default=0.1)
    cut.add_argument("--seed", type=int, default=0)
    options = known.parse_args(arguments)
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
    return commands.cut(
        manifest,
        options.out,
        source=options.source,
        target=options.target,
        fraction=options.fraction,
        seed=options.seed,
    )


def _samples(given: Sequence[str]) -> CheckConfig:
    """The configuration of a manifest path or of overrides; no calib split is cut unless asked for."""
    files = [text for text in given if "=" not in text or Path(text).exists()]
    overrides = [text for text in given if text not in files]
    if not given:
        raise FigleafError("no samples given: pass a manifest file or an override such as data=scenes")
    if not any(text.startswith("data.calib_fraction=") for text in overrides):
        overrides.append("data.calib_fraction=0")
    config: CheckConfig = compose("check", overrides)
    # Set here and not by an override, whose grammar gives quotes, commas and brackets in a path a meaning.
    return replace(config, data=replace(config.data, manifest=files[-1])) if files else config
