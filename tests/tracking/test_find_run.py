import uuid
from collections.abc import Callable
from pathlib import Path

import pytest

from figleaf.errors import FigleafError
from figleaf.tracking.find import find_run, runs, studies, summary
from figleaf.tracking.store import Store

Make = Callable[..., str]
ODD_NAMES = [
    "it's",
    'say "hi"',
    "both ' and \"",
    "100%",
    "under_score",
    "a\\b",
    "`tick`",
    "ü",
    "' OR name != '",
    "a b-s0",
]


@pytest.fixture
def make(store: Store) -> Make:
    """Makes a run as a training leaves it, one second after the one before; gives its id."""
    client, begun = store.client, [0]

    def add(name: str, *, experiment: str = "figleaf", status: str = "FINISHED", **tags: object) -> str:
        begun[0] += 1000
        run = client.create_run(
            store.experiment(experiment),
            start_time=begun[0],
            run_name=name,
            tags={f"figleaf.{key}": str(value) for key, value in tags.items()},
        )
        client.set_terminated(run.info.run_id, status)
        return str(run.info.run_id)

    return add


def test_a_run_is_found_by_id_by_the_start_of_its_id_and_by_name(store: Store, make: Make) -> None:
    make("other")
    run_id = make("vgg16-s0", experiment="second")
    for ref in (run_id, run_id[:12], run_id[:8], "vgg16-s0"):
        assert find_run(store, ref).run_id == run_id


def test_what_fits_several_runs_is_refused_with_all_of_them(
    store: Store, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = iter([uuid.UUID(f"abcd0000{last:024x}") for last in (1, 2, 3)])
    monkeypatch.setattr("mlflow.store.tracking.sqlalchemy_store.uuid.uuid4", lambda: next(ids))
    make("twin"), make("twin"), make("abcd00")
    for ref, count in (("twin", 2), ("abcd", 3), ("abcd00", 3)):  # an id goes before a name that looks like one
        with pytest.raises(FigleafError, match=f"{count} runs fit") as raised:
            find_run(store, ref)
        assert str(raised.value).count("(FINISHED)") == count


def test_three_characters_are_too_few_for_an_id_but_may_be_a_name(store: Store, make: Make) -> None:
    run_id = make("run")
    with pytest.raises(FigleafError, match="there is none"):
        find_run(store, run_id[:3])
    named = make("abc")
    assert find_run(store, "abc").run_id == named


@pytest.mark.parametrize("name", ODD_NAMES)
def test_a_name_is_text_whatever_it_holds(store: Store, make: Make, name: str) -> None:
    make("another", study="another")
    run_id = make(name, study=name, arm=name, selection=0.5)
    assert find_run(store, name).run_id == run_id
    assert [run.run_id for run in runs(store, study=name)] == [run_id]


def test_latest_is_the_last_to_start_of_those_that_finished(store: Store, make: Make) -> None:
    make("a")
    finished = make("b")
    make("c", status="FAILED")
    make("study first_light", kind="study")  # the parent of trials has no weights
    assert find_run(store, "latest").run_id == finished


def test_a_trial_is_found_by_study_arm_and_seed_as_study_status_and_records_call_it(store: Store, make: Make) -> None:
    make("plain-s1", study="other", arm="plain", seed=1)
    first = make("plain-s1", study="mine", arm="plain", seed=1)
    dashed = make("a-b-s12", study="mine", arm="a-b", seed=12)
    make("plain-s1", study="mine", arm="plain", seed=1, status="KILLED")
    assert find_run(store, "mine/plain-1").run_id == first, "the one that finished, though another began later"
    assert find_run(store, "mine/a-b-12").run_id == dashed
    again = make("plain-s1", study="mine", arm="plain", seed=1)
    assert find_run(store, "mine/plain-1").run_id == again, "of two that finished the later"
    failed = make("plain-s2", study="mine", arm="plain", seed=2, status="FAILED")
    assert find_run(store, "mine/plain-2").run_id == failed
    named = make("mine/a-b-12")
    assert find_run(store, "mine/a-b-12").run_id == named, "what is called so goes before"


def test_a_trial_that_is_not_there_is_answered_with_the_trials_or_studies_that_are(store: Store, make: Make) -> None:
    make("plain-s1", study="mine", arm="plain", seed=1), make("plain-s1", study="mine", arm="plain", seed=1)
    make("plain-s2", study="mine", arm="plain", seed=2), make("plain-s1", study="other", arm="plain", seed=1)
    make("study mine", kind="study")
    for ref, told in (
        ("mine/plain-3", "run=mine/plain-3: there is none; trials of mine with runs: plain-1, plain-2$"),
        ("nobodys/plain-1", "run=nobodys/plain-1: there is none; the latest runs: "),
        ("plain-2", "run=plain-2: there is none; it is a trial of mine: pass mine/plain-2$"),
        ("plain-1", "it is a trial of mine and other: pass mine/plain-1$"),
    ):
        with pytest.raises(FigleafError, match=told):
            find_run(store, ref)


def test_studies_with_runs_are_listed_once_and_runs_of_none_are_not_a_study(store: Store, make: Make) -> None:
    make("a", study="t"), make("b", study="s"), make("c", study="t"), make("lone", study=""), make("older")
    assert studies(store) == ["s", "t"]


@pytest.mark.parametrize(
    ("ref", "hint"),
    [
        ("absent", "the latest runs: .* high"),
        ("f" * 32, "the latest runs: .* high|it has: .* high"),
        ("abcd1234", "the latest runs"),
    ],
)
def test_what_is_not_there_is_answered_with_what_is(store: Store, make: Make, ref: str, hint: str) -> None:
    make("high", study="s", arm="plain", selection=0.9)
    with pytest.raises(FigleafError, match=hint) as raised:
        find_run(store, ref)
    assert ref in str(raised.value)


def test_an_empty_store_says_so(store: Store) -> None:
    for ref in ("latest", "name", "0" * 32):
        with pytest.raises(FigleafError, match="none"):
            find_run(store, ref)


def test_runs_of_other_projects_on_the_same_server_are_not_seen(store: Store, make: Make) -> None:
    make("ours", study="s")
    foreign = store.client.create_experiment("theirs")
    store.client.set_terminated(store.client.create_run(foreign, run_name="theirs").info.run_id)
    assert [run.name for run in runs(store)] == ["ours"]
    assert find_run(store, "latest").name == "ours"
    with pytest.raises(FigleafError):
        find_run(store, "theirs")


def test_a_listing_has_a_row_a_run_the_latest_first(store: Store, make: Make, tmp_path: Path) -> None:
    old = make("old", folder=tmp_path / "gone")
    new = make("new", study="s", arm="a", seed=1, selection=0.5, folder=tmp_path)
    empty = {"study": "", "arm": "", "seed": "", "selection": "", "folder": ""}
    assert summary(runs(store)) == [
        {"run_id": new, "name": "new", "status": "FINISHED", "study": "s", "arm": "a", "seed": "1", "selection": "0.5"}
        | {"folder": str(tmp_path)},
        {"run_id": old, "name": "old", "status": "FINISHED", **empty},
    ]
