"""Shards scored by the machines of a Ray cluster: each by one worker, with the code that scores on one machine.

Ray Data hands the names of shards to workers, which read them where they lie, so the same paths must lead to them
everywhere, and figleaf must be installed there in the same version. What comes back is one row a shard, its part of the
answer as a Parquet file, which the driver puts in place (`figleaf.serve.parts`): where a machine dies, Ray has its
shards scored again by others, and a part that came twice would be the same file. Ray's own Parquet writer is not used:
it names files by tasks, and after a retry or a restart of the driver nobody can tell which rows are there already.

The model's file travels as bytes, once to each machine, and is loaded once by each worker, by the readers of figleaf,
which unpickle nothing. Between its own processes Ray does pickle: names of our classes, settings and these bytes, and
by that any code that somebody who may talk to the cluster sends. So a cluster that is started here takes a token drawn
for it, and its dashboard is off; a cluster that is there already is as safe as whoever started it has made it.
"""

import logging
import os
import secrets
import socket
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from figleaf.errors import FigleafError
from figleaf.evaluate.policy import Policy
from figleaf.evaluate.scorer import Scorer
from figleaf.serve.items import Item, items_of
from figleaf.serve.parts import Parts, Unit, part_of
from figleaf.serve.predict import answers

LOCAL = "local"
_STORE_BYTES = 200_000_000  # of a cluster started here: it holds names, parts and, twice, the model
_ANSWER_S = 10.0


@dataclass(frozen=True)
class Settings:
    """How a worker scores; see `figleaf.serve.predict.answers`. `cpus` are reserved for it, and decode."""

    threshold: float | None
    policy: Policy | None
    batch_size: int
    cpus: int


def score_on_ray(parts: Parts, model: Path, settings: Settings, address: str) -> Iterator[int]:
    """Score the units of `parts` that are missing with the file `model`, and write each part; gives their numbers.

    `address` is that of a cluster (HOST:PORT, or auto for RAY_ADDRESS or the one that this machine belongs to), or
    local for one that is started here and ends with this. Raises `FigleafError` when there is none, and when a worker
    fails otherwise than by its machine's death.
    """
    missing = parts.missing()
    if not missing:
        return
    with _connected(address, model.stat().st_size) as ray:
        from ray.data import ActorPoolStrategy, DataContext, from_items
        from ray.exceptions import RayError

        DataContext.get_current().enable_progress_bars = False
        logging.getLogger("ray.data").setLevel(logging.ERROR)  # it tells its plan, and that it draws no bar
        rows = [{"number": number, "told": parts.told(number), **asdict(parts.units[number])} for number in missing]
        scored = from_items(rows, override_num_blocks=len(rows)).map(
            _Worker,
            fn_constructor_args=(ray.put(model.read_bytes()), model.suffix, settings, parts.actions),
            num_cpus=settings.cpus,
            # With one shard in hand and one in waiting: without the second Ray never adds a worker, with more shards
            # would wait behind a long one while other workers have nothing to do.
            compute=ActorPoolStrategy(min_size=1, max_size=len(rows), max_tasks_in_flight_per_actor=2),
        )
        try:
            for row in scored.iter_rows():
                parts.write(row["number"], row["part"])
                yield row["number"]
        except RayError as error:
            raise FigleafError(
                f"--ray {address}: a worker failed: {_last_line(error)}; what is scored stays, and the same command "
                "goes on from there"
            ) from error


class _Worker:
    """One process of the cluster, with its own copy of the model."""

    def __init__(self, model: Any, suffix: str, settings: Settings, actions: bool) -> None:
        import ray

        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / f"model{suffix}"
            path.write_bytes(ray.get(model))
            self.scorer = _scorer(path, settings.cpus)
        self.settings, self.actions = settings, actions

    def __call__(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """The part of one unit."""
        found = answers(
            self.scorer,
            _items(Unit(row["path"], row["n_bytes"], row["mtime_ns"], row["absolute"])),
            threshold=self.settings.threshold,
            policy=self.settings.policy,
            batch_size=self.settings.batch_size,
            workers=self.settings.cpus,
        )
        rows = (answer.row for answer in found)
        return {"number": row["number"], "part": part_of(rows, self.scorer.classes, self.actions, row["told"])}


def _scorer(path: Path, threads: int) -> Scorer:
    if path.suffix == ".onnx":
        from figleaf.export.onnx_scorer import OnnxScorer

        return OnnxScorer(path, threads=threads)
    from figleaf.evaluate.saved_scorer import scorer_of

    return scorer_of(path)


def _items(unit: Unit) -> Iterator[Item]:
    """What a unit holds, called as its user called it, each name once: an archive may hold one twice.

    Raises `FigleafError` on a machine that does not see the file which the driver saw: its rows would all say that
    there is none.
    """
    file = Path(unit.absolute)
    if unit.n_bytes and not (file.is_file() and file.stat().st_size == unit.n_bytes):
        raise FigleafError(
            f"{unit.absolute}: not there on {socket.gethostname()}, or another file; the same path must lead to the "
            "shards on every machine"
        )
    met: set[str] = set()
    for item in items_of([unit.absolute]):
        name = unit.path + item.name.removeprefix(unit.absolute)
        if name not in met:
            met.add(name)
            yield replace(item, name=name)


@contextmanager
def _connected(address: str, model_bytes: int) -> Iterator[Any]:
    """Ray, connected, and disconnected at the end whatever happens."""
    if address == LOCAL:
        # Read by Ray when it is imported. Its ports cannot be kept from the network, only made to ask for this.
        os.environ.setdefault("RAY_AUTH_MODE", "token")
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    # Its C++ parts report as errors what Ray Data does by design; what fails reaches us as an exception.
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    import ray

    options: dict[str, Any] = {"address": address, "log_to_driver": False, "logging_level": "ERROR"}
    if address == LOCAL:
        cores = len(os.sched_getaffinity(0))
        store = _STORE_BYTES + 2 * model_bytes
        options |= {"num_cpus": cores, "object_store_memory": store, "include_dashboard": False}
    try:
        _require_answer(address)
        ray.init(**options)
    except (ConnectionError, RuntimeError, ValueError, OSError) as error:
        raise FigleafError(
            f"--ray {address}: no cluster answers there ({_last_line(error)}); name HOST:PORT of one, auto for that of "
            "this machine or of RAY_ADDRESS, or local"
        ) from error
    try:
        yield ray
    finally:
        ray.shutdown()


def _require_answer(address: str) -> None:
    """Raises `OSError` unless somebody listens at HOST:PORT: Ray itself would ask for many minutes."""
    host, _, port = (os.environ.get("RAY_ADDRESS", "") if address == "auto" else address).rpartition(":")
    if port.isdecimal():
        socket.create_connection((host.strip("[]"), int(port)), timeout=_ANSWER_S).close()


def _last_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1][:300] if lines else type(error).__name__
