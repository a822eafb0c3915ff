"""`figleaf skin`: what the skin lab sees in a picture, drawn."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from figleaf.commands.arguments import file_name, parser, say
from figleaf.errors import FigleafError

DRAWINGS = (
    *("mask", "filter", "superpixels", "graph", "cut", "regions", "outlines"),
    *("limbs", "verified", "kinds", "judged", "crops"),
)
SCHEMES = ("windows", "proposals", "skin_regions")
RULES = ("fleck", "kovac", "ycbcr", "hsv", "normalised_rgb", "jones_rehg")  # the systems are slow to import
EPILOG = """\
Drawings:
  mask         what the rule calls skin
  filter       Fleck, Forsyth & Bregler's filter of 1996, step by step on one sheet
  superpixels  the patches that a picture is cut into first;  graph: how much neighbours belong together
  cut          the parts that the normalised cut of that graph leaves
  regions      pixels of skin grouped into regions;  outlines: the polygons around them
  limbs        straight ribbons of skin (yellow), pairs that are limbs (blue, joints as dots), the two limbs of a
               girdle (joined by a red line), a trunk and the thigh that leaves it (both green)
  verified     the same of those ribbons that look like a limb of the drawn gallery
  kinds        where a network, trained on drawn figures, sees upper arms (orange), forearms (light blue), thighs
               (green) and shins (red)
  judged       the same of the likeliest of many ribbons, from between dark lines in the skin and where a network
               sees limbs, too
  crops        the boxes of --scheme: windows, proposals or skin_regions

One PNG a picture and drawing goes to --out; on standard output a JSON object a picture: its share of skin by the rule,
what the filter of 1996 decides, the files. A file that is no picture gets an object that says why. The drawings show
the picture: keep them where the picture may be kept.

examples:
  figleaf skin photo.jpg
  figleaf skin photo.jpg --draw filter regions --rule ycbcr --out drawings
  figleaf skin photo.jpg --size 160 --draw filter     # as large as model=skin_fleck sees it; shares depend on the size
"""


def main(arguments: Sequence[str]) -> int:
    """Draw; returns 1 when a file could not be read."""
    known = parser("skin", "What the skin lab sees in a picture, drawn.", EPILOG.replace("%", "%%"))
    known.add_argument("pictures", nargs="*", metavar="IMAGE", type=Path)
    known.add_argument("--draw", nargs="+", default=["all"], metavar="NAME", help="of the drawings above; default all")
    known.add_argument(
        "--rule", default="kovac", choices=RULES, metavar="NAME", help=f"{', '.join(RULES)}; default kovac"
    )
    known.add_argument(
        "--scheme", default="skin_regions", choices=SCHEMES, metavar="NAME", help="of crops; default skin_regions"
    )
    known.add_argument("--out", type=Path, default=Path("skin"), metavar="FOLDER", help="default ./skin")
    known.add_argument("--size", type=int, default=320, help="longer side in pixels; default 320")
    options = known.parse_args(arguments)
    names = _drawings(options.draw)
    if not options.pictures:
        known.error("the following arguments are required: IMAGE")
    if options.size < 1:
        raise FigleafError(f"--size {options.size}: expected at least 1")
    from figleaf.data.decode import DecodeError, decode, quiet_pillow
    from figleaf.files import explained
    from figleaf.skin.drawings import draw, fitting
    from figleaf.skin.systems import pixels_called

    rule, taken, failed = pixels_called(options.rule), set[str](), 0
    with explained(options.out):
        options.out.mkdir(parents=True, exist_ok=True)
    for path in options.pictures:
        try:
            with quiet_pillow():
                picture = fitting(decode(path), options.size)
        except DecodeError as error:
            failed += 1
            print(json.dumps({"picture": str(path), "error": error.reason}, ensure_ascii=False))
            say(f"{path}: {error.reason}")
            continue
        found = draw(picture, names, rule, options.scheme)
        stem = _free_name(path, taken)
        files = {name: str(_save(drawn, options.out / f"{stem}-{name}.png")) for name, drawn in found.drawings.items()}
        line = {
            "picture": str(path),
            "error": None,
            "size": list(picture.shape[:2]),
            "skin_share": round(found.skin_share, 4),
            "filter_share": round(found.filter_share, 4),
            "passes_filter": found.passes_filter,
            "drawings": files,
        }
        print(json.dumps(line, ensure_ascii=False))
    if failed < len(options.pictures):
        say(f"drawings in {options.out}")
    sys.stdout.flush()
    return int(failed > 0)


def _drawings(names: Sequence[str]) -> list[str]:
    """The drawings asked for, each once."""
    for name in names:
        if name not in ("all", *DRAWINGS):
            raise FigleafError(
                f"--draw {name}: expected all, or some of {', '.join(DRAWINGS)}"
                + ("; pictures come before --draw" if Path(name).exists() else "")
            )
    return list(DRAWINGS) if "all" in names else list(dict.fromkeys(names))


def _free_name(path: Path, taken: set[str]) -> str:
    """The picture's name as part of a file name, another one for each."""
    stem = file_name(path.stem)[:80] or "picture"
    name, number = stem, 2
    while name in taken:
        name, number = f"{stem}-{number}", number + 1
    taken.add(name)
    return name


def _save(rgb_u8, path: Path) -> Path:  # type: ignore[no-untyped-def]
    from PIL import Image

    from figleaf.files import atomic_path

    with atomic_path(path) as temporary:
        Image.fromarray(rgb_u8).save(temporary)
    return path
