"""Runs moved between trackers are the same there, once, and nothing else comes along."""

import json
import math
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from watching import history

from figleaf.errors import FigleafError
from figleaf.files import sha256_file
from figleaf.tracking import transfer
from figleaf.tracking.archive import Archive, safe_path
from figleaf.tracking.find import FoundRun, find_run, runs
from figleaf.tracking.run import TrackedRun
from figleaf.tracking.store import Store
from figleaf.tracking.transfer import export_runs, import_runs

Start = Callable[..., TrackedRun]
ODD = "ü 1.txt"


@pytest.fixture
def study(start: Start, store: Store, tmp_path: Path) -> dict[str, str]:
    """A study's run, two trials of it, and a run beside them: their ids by name."""
    ids = {}
    with start(name="study first", folder=tmp_path / "p", tags={"figleaf.kind": "study"}) as parent:
        parent.journal.append({"mean": 0.5}, 0)
    ids["parent"] = parent.run_id
    for name in ("a", "b"):
        with start(name=name, folder=tmp_path / name, parent_run_id=parent.run_id) as run:
            for step in range(5):
                run.journal.append(
                    {"loss": 1 / (step + 1), "odd": [math.nan, math.inf, -math.inf, 0, -0.1][step]}, step
                )
            run.set_tag("note", "two\u2028lines\nand ü")
            file = tmp_path / ODD
            file.write_text(name)
            run.log_artifact(file, "figures/deep")
            run.log_artifact(file)
        ids[name] = run.run_id
    with start(name="alone", folder=tmp_path / "alone", tags={"figleaf.study": "other"}, experiment="elsewhere") as run:
        run.journal.append({"loss": 3}, 7)
    ids["alone"] = run.run_id
    return ids


def content(archive: Path) -> dict[str, str]:
    return {str(path.relative_to(archive)): sha256_file(path) for path in archive.rglob("*") if path.is_file()}


def by_name(store: Store) -> dict[str, FoundRun]:
    found = runs(store)
    assert len({run.name for run in found}) == len(found), "a run twice"
    return {run.name: run for run in found}


def test_imported_runs_are_the_same_in_all_they_hold(
    store: Store, study: dict[str, str], new_store: Callable[[str], Store], tmp_path: Path
) -> None:
    export_runs(store, tmp_path / "moved")
    other = new_store("other")
    rows = import_runs(other, tmp_path / "moved")
    assert {row["action"] for row in rows} == {"imported"}
    before, after = by_name(store), by_name(other)
    assert before.keys() == after.keys()
    for name, run in before.items():
        there = after[name]
        assert there.run_id != run.run_id
        assert there.tags["figleaf.imported_from"] == run.run_id
        assert (there.status, there.start_time_ms, there.params) == (run.status, run.start_time_ms, run.params)
        info, info_there = (s.client.get_run(r.run_id).info for s, r in ((store, run), (other, there)))
        assert info.end_time == info_there.end_time
        for key in run.metrics:
            rows_, rows_there = (
                [(m.step, m.timestamp, repr(m.value)) for m in s.client.get_metric_history(r.run_id, key)]
                for s, r in ((store, run), (other, there))
            )
            assert sorted(rows_) == sorted(rows_there), key
        kept = {key: value for key, value in run.tags.items() if key != "mlflow.parentRunId"}
        assert kept.items() <= there.tags.items()
        if name in ("a", "b"):
            assert there.tags["mlflow.parentRunId"] == after["study first"].run_id
            assert there.artifact(f"figures/deep/{ODD}").read_text() == name
            assert there.artifact(ODD).read_text() == name
    elsewhere = other.client.get_run(after["alone"].run_id).info.experiment_id
    assert other.client.get_experiment(elsewhere).name == "elsewhere"


def test_there_and_back_and_onwards_nothing_is_double_and_no_byte_differs(
    store: Store, study: dict[str, str], new_store: Callable[[str], Store], tmp_path: Path
) -> None:
    export_runs(store, tmp_path / "1")
    server, third = new_store("server"), new_store("third")
    import_runs(server, tmp_path / "1")
    export_runs(server, tmp_path / "2")
    assert content(tmp_path / "2") == content(tmp_path / "1")
    assert {row["action"] for row in import_runs(store, tmp_path / "2")} == {"original"}
    assert {run.run_id for run in by_name(store).values()} == set(study.values())
    import_runs(third, tmp_path / "2")
    assert {row["action"] for row in import_runs(third, tmp_path / "1")} == {"unchanged"}
    assert {row["action"] for row in import_runs(server, tmp_path / "2")} == {"unchanged"}
    assert len(by_name(third)) == len(by_name(server)) == 4


def test_infinity_is_written_as_such_though_the_tracker_holds_a_number(
    store: Store, study: dict[str, str], tmp_path: Path
) -> None:
    export_runs(store, tmp_path / "moved", [find_run(store, "a")])
    run = Archive(tmp_path / "moved").run(study["a"])
    odd = [row.value for row in run.metrics if row.key == "odd"]
    assert str(odd) == "[nan, inf, -inf, 0.0, -0.1]"


def test_interrupted_import_goes_on_and_ends_with_each_run_once(
    store: Store,
    study: dict[str, str],
    new_store: Callable[[str], Store],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    export_runs(store, tmp_path / "moved")
    other = new_store("other")
    original, calls = transfer.MlflowClient.log_batch, 0

    def dies(*args: Any, **kwargs: Any) -> None:
        nonlocal calls
        calls += 1
        if calls in (2, 8):
            raise KeyboardInterrupt
        original(*args, **kwargs)

    monkeypatch.setattr(transfer.MlflowClient, "log_batch", dies)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            import_runs(other, tmp_path / "moved")
    assert "completed" in {row["action"] for row in import_runs(other, tmp_path / "moved")}
    export_runs(other, tmp_path / "again")
    assert content(tmp_path / "again") == content(tmp_path / "moved")


def test_run_exported_while_it_ran_is_completed_by_a_later_export(
    store: Store, start: Start, new_store: Callable[[str], Store], tmp_path: Path
) -> None:
    other = new_store("other")
    with start() as run:
        run.journal.append({"loss": 1}, 0)
        run.journal.commit()
        while not history(store, run.run_id, "loss"):
            pass
        export_runs(store, tmp_path / "early")
        import_runs(other, tmp_path / "early")
        (early,) = runs(other)
        assert early.status == "RUNNING"
        run.journal.append({"loss": 2}, 1)
    export_runs(store, tmp_path / "late")
    assert [row["action"] for row in import_runs(other, tmp_path / "late")] == ["completed"]
    (late,) = runs(other)
    assert late.run_id == early.run_id
    assert late.status == "FINISHED"
    assert late.history("loss") == [(0, 1), (1, 2)]


@pytest.mark.parametrize(
    ("refs", "of_study", "expected"),
    [
        (["a"], None, {"study first", "a"}),
        (["study first"], None, {"study first", "a", "b"}),
        ([], "first", {"study first", "a", "b"}),
        (["alone"], None, {"alone"}),
        ([], None, {"study first", "a", "b", "alone"}),
    ],
)
@pytest.mark.usefixtures("study")
def test_families_stay_together(
    store: Store, tmp_path: Path, refs: list[str], of_study: str | None, expected: set[str]
) -> None:
    chosen = [find_run(store, ref) for ref in refs]
    assert {row["name"] for row in export_runs(store, tmp_path / "moved", chosen, study=of_study)} == expected


@pytest.mark.usefixtures("study")
def test_what_cannot_be_exported_is_named_and_nothing_is_left_behind(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    with pytest.raises(FigleafError, match="name a new folder"):
        export_runs(store, tmp_path / "full")
    with pytest.raises(FigleafError, match="of study missing; studies with runs: first, other"):
        export_runs(store, tmp_path / "moved", study="missing")

    def full_disk(*args: Any) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(transfer.MlflowClient, "download_artifacts", full_disk)
    there = set(tmp_path.iterdir())
    with pytest.raises(FigleafError, match="cannot be read: no space left"):
        export_runs(store, tmp_path / "moved")
    assert set(tmp_path.iterdir()) == there


def spoil_index(moved: Path, run: Path) -> None:
    (moved / "archive.json").unlink()


def spoil_table(moved: Path, run: Path) -> None:
    table = run / "run.jsonl"
    table.write_text(table.read_text().replace('"FINISHED"', '"FAILED"'))


def cut_table(moved: Path, run: Path) -> None:
    os.truncate(run / "run.jsonl", 100)


def lose_file(moved: Path, run: Path) -> None:
    (run / "artifacts" / ODD).unlink()


def change_file(moved: Path, run: Path) -> None:
    (run / "artifacts" / ODD).write_text("else")


def lead_elsewhere(moved: Path, run: Path) -> None:
    file = run / "artifacts" / ODD
    secret = moved.parent / "secret"
    shutil.copy(file, secret)
    file.unlink()
    file.symlink_to(secret)


def climb_out(moved: Path, run: Path) -> None:
    """What somebody would send who knows how the hashes are made."""
    (moved.parent / "secret").write_text("secret")
    table = run / "run.jsonl"
    head = table.read_text().split("\n")[0]
    stolen = {"path": "../../../../secret", "bytes": 6, "sha256": sha256_file(moved.parent / "secret")}
    table.write_text("\n".join([head, json.dumps({"artifact": stolen}), ""]))
    index = json.loads((moved / "archive.json").read_text())
    index["runs"][run.name] = sha256_file(table)
    (moved / "archive.json").write_text(json.dumps(index))


def name_a_path_as_run(moved: Path, run: Path) -> None:
    index = json.loads((moved / "archive.json").read_text())
    index["runs"]["../../x"] = "0"
    (moved / "archive.json").write_text(json.dumps(index))


def come_from_the_future(moved: Path, run: Path) -> None:
    index = json.loads((moved / "archive.json").read_text())
    (moved / "archive.json").write_text(json.dumps({**index, "format_version": 2}))


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (spoil_index, "no whole export"),
        (spoil_table, "not what was exported"),
        (cut_table, "copied in part"),
        (lose_file, "missing"),
        (change_file, "not what was exported"),
        (lead_elsewhere, "a link leads elsewhere"),
        (climb_out, "not a path that a run's file may have"),
        (name_a_path_as_run, "not the id of a run"),
        (come_from_the_future, "format 2, this figleaf reads 1"),
    ],
)
def test_spoilt_archive_is_refused_before_anything_is_imported(
    store: Store,
    study: dict[str, str],
    new_store: Callable[[str], Store],
    tmp_path: Path,
    spoil: Callable[[Path, Path], None],
    told: str,
) -> None:
    moved = tmp_path / "moved"
    export_runs(store, moved)
    spoil(moved, moved / "runs" / study["b"])
    other = new_store("other")
    with pytest.raises(FigleafError, match=told):
        import_runs(other, moved)
    assert not runs(other)


@pytest.mark.parametrize(
    "path", ["", "/etc/passwd", "../x", "a/../../x", "a/..", "a\\..\\x", "./a", "a//b", "a\0b", "a/"]
)
def test_paths_that_lead_out_or_are_written_oddly_are_refused(path: str) -> None:
    with pytest.raises(FigleafError, match="not a path"):
        safe_path(path)


@pytest.mark.parametrize("path", ["a", "a/b.txt", "figures/ü 1.png", "..a/b..", ".hidden"])
def test_ordinary_paths_are_taken(path: str) -> None:
    assert safe_path(path) == path


def test_strangers_tracker_cannot_write_outside_of_the_export(
    store: Store, study: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = transfer.MlflowClient.list_artifacts

    def listed(client: Any, run_id: str, path: str | None = None) -> Any:
        entries = real(client, run_id, path)
        for entry in entries:
            entry._path = "../../../../escaped"
        return entries

    monkeypatch.setattr(transfer.MlflowClient, "list_artifacts", listed)
    with pytest.raises(FigleafError, match="not a path"):
        export_runs(store, tmp_path / "moved", [find_run(store, "a")])
    assert not list(tmp_path.glob("**/escaped"))


def test_imported_run_is_found_as_any_other(
    store: Store, start: Start, new_store: Callable[[str], Store], tmp_path: Path
) -> None:
    with start(tags={"figleaf.study": "first", "figleaf.selection": "0.9"}):
        pass
    export_runs(store, tmp_path / "moved")
    other = new_store("other")
    import_runs(other, tmp_path / "moved")
    assert find_run(other, "latest").selection == 0.9
