import contextlib
import errno
import json
import math
import os
import random
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from mlflow.exceptions import MlflowException
from mlflow.utils.validation import _validate_metric_name

from figleaf.errors import FigleafError
from figleaf.files import write_text
from figleaf.tracking.journal import MetricJournal, Row, waiting_offsets


@pytest.fixture
def journal(tmp_path: Path) -> MetricJournal:
    return MetricJournal(tmp_path / "journal.jsonl")


def filled(journal: MetricJournal, steps: int) -> MetricJournal:
    for step in range(steps):
        journal.append({"loss": 1 / (step + 1), "lr": 0.1}, step, time_ms=1_000 + step)
    return journal


def test_rows_are_read_back_exactly_whatever_their_value(journal: MetricJournal) -> None:
    values = {"third": 1 / 3, "tiny": 5e-324, "minus": -math.inf, "plus": math.inf, "nothing": math.nan}
    journal.append(values, step=2**40, time_ms=7)
    again = MetricJournal(journal.path).rows()
    assert [row[:3] for row in again] == [(2**40, 7, key) for key in values]
    assert [str(row.value) for row in again] == [str(value) for value in values.values()]


def test_a_line_torn_at_any_byte_is_dropped_and_the_whole_lines_stay(journal: MetricJournal, tmp_path: Path) -> None:
    whole = filled(journal, 3).rows()
    data = journal.path.read_bytes()
    for length in range(len(data) + 1):
        torn = tmp_path / "torn.jsonl"
        torn.write_bytes(data[:length])
        reopened = MetricJournal(torn)
        assert reopened.rows() == whole[: 2 * data[:length].count(b"\n")]
        reopened.append({"loss": 0.5}, step=9)
        assert reopened.rows()[-1].step == 9
        reopened.close()


def test_only_committed_rows_are_given_to_the_sender(journal: MetricJournal) -> None:
    filled(journal, 2)
    covered = journal.offset
    filled(journal, 1)
    assert journal.take(10) is None
    journal.commit(covered)
    batch = journal.take(10)
    assert batch is not None
    assert [row.step for row in batch.rows] == [0, 0, 1, 1]
    journal.confirm(batch)
    assert journal.take(10) is None
    assert journal.all_delivered


def test_rows_taken_but_not_confirmed_are_taken_again_identically_after_a_restart(journal: MetricJournal) -> None:
    filled(journal, 5).commit()
    first = journal.take(4)
    assert MetricJournal(journal.path).take(4) == first


def test_a_resume_drops_the_rows_after_its_checkpoint(journal: MetricJournal) -> None:
    kept = filled(journal, 3).rows()
    checkpoint = journal.offset
    journal.commit(checkpoint)
    filled(journal, 2)
    journal.truncate(checkpoint)
    assert MetricJournal(journal.path).rows() == kept


def test_resuming_from_a_checkpoint_makes_its_rows_durable(journal: MetricJournal) -> None:
    filled(journal, 2)
    checkpoint = journal.offset  # killed after the checkpoint was renamed, before it was committed here
    journal.truncate(checkpoint)
    assert journal.committed == checkpoint


def test_truncating_takes_back_a_commit_that_nobody_has_read(journal: MetricJournal) -> None:
    filled(journal, 1)
    checkpoint = journal.offset
    filled(journal, 1).commit()
    journal.truncate(checkpoint)
    assert journal.committed == checkpoint
    assert waiting_offsets(journal.path) == (checkpoint, 0)


@pytest.mark.parametrize("confirmed", [True, False])
def test_rows_that_the_tracker_may_hold_cannot_be_taken_back(journal: MetricJournal, confirmed: bool) -> None:
    filled(journal, 2).commit()
    batch = journal.take(10)
    assert batch is not None
    if confirmed:
        journal.confirm(batch)
    with pytest.raises(FigleafError, match="resume=never"):
        MetricJournal(journal.path).truncate(0)
    journal.truncate(journal.offset)


def test_a_checkpoint_of_another_run_is_recognised_by_its_offset(journal: MetricJournal) -> None:
    filled(journal, 2)
    for offset in (journal.offset + 1, journal.offset - 1, 1, -1):
        with pytest.raises(FigleafError, match="another run"):
            journal.truncate(offset)


def test_a_journal_that_lost_committed_rows_is_refused(journal: MetricJournal) -> None:
    filled(journal, 2).commit()
    journal.path.write_bytes(b"")
    with pytest.raises(FigleafError, match="changed or lost"):
        MetricJournal(journal.path)


def test_a_full_disk_leaves_no_half_line_and_says_so(journal: MetricJournal, monkeypatch: pytest.MonkeyPatch) -> None:
    before = filled(journal, 1).rows()
    write, calls = os.write, []

    def half_then_full(descriptor: int, data: bytes) -> int:
        calls.append(data)
        if len(calls) == 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(descriptor, data[: len(data) // 2])

    monkeypatch.setattr(os, "write", half_then_full)
    with pytest.raises(FigleafError, match="disk is full"):
        journal.append({"loss": 1.0}, step=1)
    monkeypatch.undo()
    assert journal.rows() == before
    journal.append({"loss": 2.0}, step=2, time_ms=5)
    assert MetricJournal(journal.path).rows() == [*before, Row(2, 5, "loss", 2.0)]


@settings(max_examples=50, deadline=None)
@given(st.text(max_size=8) | st.from_regex(r"[a./\-_ :é1]{1,9}", fullmatch=True))
@example("a" * 250)
@example("a" * 251)
@example("a\n")
def test_a_metric_name_is_refused_at_once_exactly_when_mlflow_would_refuse_it(name: str) -> None:
    try:
        _validate_metric_name(name)
        allowed = len(name) <= 250 and not name.endswith("\n")  # MLflow's pattern overlooks a last line break
    except MlflowException:
        allowed = False
    with tempfile.TemporaryDirectory() as folder:
        journal = MetricJournal(Path(folder) / "journal.jsonl")
        try:
            journal.append({name: 1.0}, step=0)
            accepted = True
        except FigleafError:
            accepted = False
        journal.close()
    assert accepted == allowed


class Killed(BaseException):
    """Stands for SIGKILL: see `Mortality`."""


class Mortality:
    """Kills at the `moment`-th act on a file, before or after it is done; from then on no act works, not even cleaning.

    Nothing is flushed to disk: that would take the tests' time and is not what SIGKILL puts at risk.
    """

    ACTS = ("write", "fsync", "ftruncate", "replace", "unlink")

    def __init__(self, patch: pytest.MonkeyPatch, moment: float, *, after: bool) -> None:
        self.moment, self.after, self.acts = moment, after, 0
        for name in self.ACTS:
            patch.setattr(
                os, name, partial(self.act, getattr(os, name) if name != "fsync" else lambda descriptor: None)
            )

    def act(self, original: Callable[..., object], *arguments: object, **options: object) -> object:
        self.acts += 1
        if self.acts > self.moment or (self.acts == self.moment and not self.after):
            raise Killed
        result = original(*arguments, **options)
        if self.acts == self.moment:
            raise Killed
        return result


class Training:
    """A pretended training: its loss is a function of the step; a checkpoint every 3 steps; delivery to a plain set.

    Killed and called again, it goes on from its checkpoint. Values repeat exactly then, but time stamps never do.
    """

    STEPS = 6

    def __init__(self, folder: Path) -> None:
        self.path = folder / "journal.jsonl"
        self.checkpoint = folder / "checkpoint.json"
        self.tracker: set[Row] = set()  # a row that is identical is swallowed, as by MLflow
        self.clock = 0

    def __call__(self) -> None:
        journal = MetricJournal(self.path)
        try:
            done, offset = json.loads(self.checkpoint.read_text()) if self.checkpoint.exists() else (0, 0)
            journal.truncate(offset)
            for step in range(done, self.STEPS):
                self.clock += 1
                journal.append({"loss": math.sin(step), "lr": step / 7}, step, time_ms=self.clock)
                if step % 3 == 2:
                    offset = journal.offset
                    write_text(self.checkpoint, json.dumps([step + 1, offset]))
                    journal.commit(offset)
                    self.deliver(journal)
            self.deliver(journal)
        finally:
            journal.close()

    def deliver(self, journal: MetricJournal) -> None:
        while (batch := journal.take(4)) is not None:
            for row in batch.rows:
                self.tracker.add(row)
                with self.path.open() as file:
                    os.fsync(file.fileno())  # an act between two rows of a batch, to be killed at
            journal.confirm(batch)

    def check(self) -> None:
        journal = MetricJournal(self.path)
        rows = journal.rows()
        journal.close()
        assert self.tracker == set(rows)
        assert [(row.step, row.value) for row in rows if row.key == "loss"] == [
            (s, math.sin(s)) for s in range(self.STEPS)
        ]
        assert len(rows) == 2 * self.STEPS


@pytest.mark.parametrize("after", [False, True])
def test_killed_before_or_after_any_act_on_a_file_nothing_is_lost_and_nothing_is_double(
    tmp_path: Path, after: bool
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        unharmed = Mortality(patch, math.inf, after=after)
        (tmp_path / "whole").mkdir()
        Training(tmp_path / "whole")()
    assert unharmed.acts > 40
    chance = random.Random(0)
    for moment in range(1, unharmed.acts + 1):
        folder = tmp_path / str(moment)
        folder.mkdir()
        training = Training(folder)
        for death in (moment, chance.randint(1, 30), math.inf):  # killed, killed again after resuming, then left alone
            with pytest.MonkeyPatch.context() as patch, contextlib.suppress(Killed):
                Mortality(patch, death, after=after)
                training()
        training.check()


@pytest.mark.parametrize("moment", range(1, 8))
def test_killed_while_taking_back_a_commit_the_journal_still_opens(tmp_path: Path, moment: int) -> None:
    journal = filled(MetricJournal(tmp_path / "journal.jsonl"), 1)
    older_checkpoint = journal.offset
    filled(journal, 1).commit()
    with pytest.MonkeyPatch.context() as patch, contextlib.suppress(Killed):
        Mortality(patch, moment, after=False)
        journal.truncate(older_checkpoint)
    reopened = MetricJournal(journal.path)
    reopened.truncate(older_checkpoint)
    assert len(reopened.rows()) == 2
