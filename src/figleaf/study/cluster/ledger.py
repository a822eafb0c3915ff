"""The ledger of a study's jobs: which job works for which trial, so that every later driver finds it again.

FIGLEAF_HOME/studies/NAME/jobs holds two files a trial, each with one writer: KEY.json, the driver's order, and
news/TOKEN.json, what the job tells. The order is written before the job is submitted. A driver that dies in between
leaves an order without a job's number; the next one replaces it, and should that job begin after all, it finds
another's token and leaves. KEY.lock is held for either, so a trial never has two jobs.
"""

import json
import time
import uuid
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import Any, TypeVar

from filelock import FileLock

from figleaf.config import TrainConfig, fingerprint, home
from figleaf.errors import FigleafError
from figleaf.files import explained, write_text

Kind = TypeVar("Kind")


class Stage(StrEnum):
    """How far a job is, by its own word."""

    RUNNING = "running"
    REQUEUED = "requeued"  # its time was up or another job was more urgent; it begins again by itself
    FINISHED = "finished"
    FAILED = "failed"
    STOPPED = "stopped"  # by SIGTERM: cancelled, or sent away by the cluster, which may let it begin again


@dataclass(frozen=True)
class Order:
    """What a driver wants of one job. `job_id` is None until the queue has given one, at `submitted` (epoch seconds).

    `key` is the trial's (`key_of`), `name` the job's; `host` is where the driver ran; `folder` holds script and logs.
    """

    key: str
    name: str
    executor: str
    config: dict[str, Any]
    home: str
    working_folder: str
    folder: str
    host: str
    max_requeues: int
    timeout_min: float
    job_id: str | None = None
    submitted: float = 0.0
    token: str = field(default_factory=lambda: uuid.uuid4().hex)


@dataclass(frozen=True)
class News:
    """What a job tells, last at `time` (epoch seconds). `error` says in one line why it failed."""

    job_id: str
    stage: Stage
    time: float = field(default_factory=time.time)
    requeues: int = 0
    run_folder: str = ""
    error: str = ""

    @property
    def is_end(self) -> bool:
        """Whether the job has nothing more to do, wherever it is."""
        return self.stage in (Stage.FINISHED, Stage.FAILED)


@dataclass(frozen=True)
class Ledger:
    """The orders and news of one study's jobs in `folder`."""

    folder: Path

    @classmethod
    def of(cls, study: str) -> "Ledger":
        """The study's ledger in FIGLEAF_HOME."""
        return cls(home() / "studies" / study / "jobs")

    def lock(self, key: str) -> FileLock:
        """Held while an order is looked at and replaced, and by its job while that begins."""
        with explained(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
        return FileLock(self.folder / f"{key}.lock", timeout=60)

    def order(self, key: str) -> Order | None:
        """The trial's last order; None when it never had one."""
        return _read(self.folder / f"{key}.json", Order)

    def place(self, order: Order) -> None:
        """Write an order. One with a new token replaces the one before it, whose news are of no more interest."""
        before = self.order(order.key)
        write_text(self.folder / f"{order.key}.json", json.dumps(asdict(order), indent=2) + "\n")
        if before is not None and before.token != order.token:
            self._news_file(before.token).unlink(missing_ok=True)

    def news(self, token: str) -> News | None:
        """What the job of the order with this token told last; None when it has not begun."""
        news = _read(self._news_file(token), News)
        return None if news is None else replace(news, stage=Stage(news.stage))

    def tell(self, token: str, news: News) -> None:
        """Write news; the job's rank 0 does."""
        write_text(self._news_file(token), json.dumps(asdict(news), indent=2) + "\n")

    def orders(self) -> Mapping[str, Order]:
        """The last order of every trial that had one, by key."""
        files = [file.name for file in self.folder.glob("*.json") if not file.name.startswith(".")]  # half written
        keys = sorted(name.removesuffix(".json") for name in files)
        return {key: order for key in keys if (order := self.order(key)) is not None}

    def _news_file(self, token: str) -> Path:
        return self.folder / "news" / f"{token}.json"


def key_of(name: str, config: TrainConfig) -> str:
    """The key of the trial called `name`: another configuration of that name is another trial."""
    # Where the manifest lies stands for the data, which may take minutes to read.
    return f"{name}-{fingerprint(config, f'{config.data.manifest} {config.data.root}')[:12]}"


def _read(file: Path, kind: type[Kind]) -> Kind | None:
    try:
        return kind(**json.loads(file.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None
    except (ValueError, TypeError) as error:
        raise FigleafError(f"{file}: not a file of a study's jobs ({error}); once none runs, remove it") from error
