"""`figleaf predict --ray`: the same rows from the machines of a cluster."""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from figleaf.commands.arguments import say
from figleaf.errors import FigleafError

if TYPE_CHECKING:
    from figleaf.commands.scorers import OpenedScorer
    from figleaf.serve.ray_predict import Settings

_CLIENT = "ray://"


def require_for_ray(address: str, out: Path | None, paths: Sequence[str]) -> None:
    """Raises `FigleafError` for what cannot be done on a cluster, before anything is loaded."""
    if out is None:
        raise FigleafError("--ray: rows come in the order in which shards are done; name a file: --out FILE.parquet")
    if "-" in paths:
        raise FigleafError("--ray scores shards and archives: name them, in place of - for a list of files")
    found = os.environ.get("RAY_ADDRESS", "") if address == "auto" else address
    if found.startswith(_CLIENT):
        raise FigleafError(
            f"--ray {found}: Ray Data does not work through Ray's client; give the command on a machine of the cluster "
            "with --ray auto, or by `ray job submit -- figleaf predict ... --ray auto`"
        )
    if os.path.lexists(address) or not (address in ("auto", "local") or address.rpartition(":")[2].isdecimal()):
        raise FigleafError(f"--ray {address}: expected HOST:PORT, auto or local")
    if find_spec("ray") is None:
        raise FigleafError("--ray needs Ray, which is not installed here: pip install 'figleaf[lab,ray]'")


def predict_on_ray(
    paths: Sequence[str],
    out: Path,
    opened: "OpenedScorer",
    settings: "Settings",
    identity: Mapping[str, Any],
    address: str,
    tracked: Callable[[Iterator[Any], int], Iterator[Any]],
) -> dict[str, int]:
    """Write `out` and count its rows: scored, flagged, errors. `tracked` draws a bar around the shards."""
    from figleaf.serve.parts import Parts, units_of
    from figleaf.serve.ray_predict import score_on_ray

    units = units_of(paths)
    with Parts(out, units, opened.scorer.classes, identity, actions=settings.policy is not None) as parts:
        if parts.is_finished:
            say(f"{out}: all rows are there already")
        else:
            missing = len(parts.missing())
            if missing < len(units):
                say(f"{len(units) - missing:,} of {len(units):,} shards are scored already")
            for _ in tracked(score_on_ray(parts, opened.file, settings, address), missing):
                pass
            parts.finish()
        counts = {"scored": 0, "flagged": 0, "errors": 0}
        for row in parts.rows():
            counts["errors" if row["error"] else "scored"] += 1
            counts["flagged"] += bool(row["flagged"])
    return counts
