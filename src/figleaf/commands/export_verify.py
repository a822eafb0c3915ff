"""`figleaf export verify`: an exported folder, looked at again."""

import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from figleaf.commands.arguments import parser, print_json, say
from figleaf.errors import FigleafError, printable

if TYPE_CHECKING:
    from figleaf.export.verify import Answers

EPILOG = """\
First every file is held against SHA256SUMS. When all of them are as they were written, each format answers on 64
pictures, drawn scenes of 20 odd sizes and of the kinds that are met (EXIF orientations, CMYK, grey, 16 bits, palette,
transparency, WebP, GIF, TIFF), and is compared with the first. Formats that lose nothing may be 1e-4 away in any
probability. The exit code is 1 when something is not as it should be.

The hashes tell damage. Whoever can change the files can change the list as well: compare its own hash with one that
came another way. Files that the list does not name are told, and not opened; they do not change the exit code. A .pt2
file is code, so it is hashed and not opened, unless you pass --run-pt2.

example:
  figleaf export verify export/demo
"""


def main(arguments: Sequence[str]) -> int:
    """Verify."""
    known = parser("export verify", "Whether an exported folder is what was written.", EPILOG)
    known.add_argument("folder", type=Path, metavar="FOLDER", help="what `figleaf export` wrote")
    known.add_argument("--run-pt2", action="store_true", help="open model.pt2 too; only one that you trust")
    known.add_argument("--hashes", action="store_true", help="only compare the hashes: needs no runtime")
    options = known.parse_args(arguments)
    if not options.folder.is_dir():
        what = "a file; name the folder it is in" if options.folder.exists() else "no such folder"
        raise FigleafError(f"{options.folder}: {what}")
    from figleaf.export.hashes import GOOD, file_states, unlisted

    states = file_states(options.folder)
    others = unlisted(options.folder, states)
    for name, state in (*states.items(), *((name, "not listed") for name in others)):
        say(f"{state:12}  {printable(name)}")
    bad = {name: state for name, state in states.items() if state != GOOD}
    report = {"folder": str(options.folder), "files": states, "not_listed": others}
    if bad or options.hashes:
        if bad:
            say(f"{len(bad)} of {len(states)} files are not as they were written; none of them was opened")
        print_json({**report, "ok": not bad})
        return int(bool(bad))
    from figleaf.export.odd_pictures import odd_pictures_at
    from figleaf.export.verify import answers, formats_in

    there, lossy = formats_in(options.folder, states)
    found = answers(
        options.folder, [name for name in there if name != "pt2" or options.run_pt2], lossy, odd_pictures_at
    )
    for name, answer in found.items():
        if answer.parity is None:
            say(f"{name:12}  {printable(answer.reason)}")
            continue
        held = "" if answer.held is None else f", at most {answer.held:g} allowed"
        say(
            f"{name:12}  probabilities {answer.parity.max_probability_diff:.1e} away from {next(iter(found))}'s on "
            f"{answer.parity.images} pictures{held}; {answer.parity.decisions_changed} decisions changed"
        )
    if not there:
        say("no weights are listed, so there is nothing to compare")
    ok = bool(there) and all(answer.good for answer in found.values())
    print_json({**report, "formats": {name: _plain(answer) for name, answer in found.items()}, "ok": ok})
    return int(not ok)


def _plain(answer: "Answers") -> dict[str, Any]:
    """As JSON, which has no infinity: a difference that is not finite is null."""
    values = {"reason": answer.reason} if answer.parity is None else asdict(answer.parity)
    return {
        key: None if isinstance(value, float) and not math.isfinite(value) else value for key, value in values.items()
    } | {"allowed": answer.held}
