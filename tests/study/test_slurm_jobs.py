"""A trial never has two jobs, whatever happens to its driver; a driver follows its jobs to their ends."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from made_up import known, trials_of, write_study
from submitit import JobEnvironment

from figleaf.config import LauncherConfig
from figleaf.errors import FigleafError
from figleaf.study.cluster import jobs as jobs_module
from figleaf.study.cluster.job import TrialJob, going_on, rank_environment
from figleaf.study.cluster.jobs import FollowedJob, Jobs
from figleaf.study.cluster.launcher import ClusterLauncher, Refused
from figleaf.study.cluster.ledger import Ledger, News, Order, Stage, key_of
from figleaf.study.cluster.queues import Ending, State, undisturbed
from figleaf.study.plan import Status, Trial, plan

REHEARSAL = LauncherConfig(executor="local-process")


@dataclass
class FakeQueue:
    """Takes jobs; the test says how they are."""

    settle_s: float = 0.0
    refuses: bool = False
    interrupts: bool = False
    submitted: list[TrialJob] = field(default_factory=list)
    states: dict[str, State] = field(default_factory=dict)
    cancelled: list[str] = field(default_factory=list)

    def submit(self, call: Any, folder: Path, parameters: Mapping[str, Any], max_requeues: int) -> str:
        if self.refuses:
            raise FigleafError("sbatch does not take the job")
        self.submitted.append(call)
        job_id = str(len(self.submitted))
        self.states[job_id] = State.QUEUED
        if self.interrupts:
            os.kill(os.getpid(), signal.SIGINT)
        return job_id

    def state(self, order: Order) -> State:
        return self.states.get(str(order.job_id), State.GONE)

    def cancel(self, order: Order) -> None:
        self.cancelled.append(str(order.job_id))

    def ending(self, order: Order, stage: Stage | None) -> Ending:
        return Ending("its node failed", sent_away=True)


@pytest.fixture
def queue(monkeypatch: pytest.MonkeyPatch) -> FakeQueue:
    made = FakeQueue()
    monkeypatch.setattr(jobs_module, "queue_of", lambda executor: made)
    monkeypatch.setattr(jobs_module, "_LOOK_S", 0.0)
    return made


@pytest.fixture
def trial(tmp_path: Path) -> Trial:
    return trials_of(write_study(tmp_path / "made"))[0]


def launcher() -> ClusterLauncher:
    """What each driver makes for itself."""
    return ClusterLauncher(REHEARSAL, "made", 4)


def order_of(trial: Trial) -> Order:
    order = Ledger.of("made").order(key_of(trial.name, trial.config))
    assert order is not None
    return order


def tell(order: Order, stage: Stage, **changes: Any) -> None:
    Ledger.of("made").tell(order.token, News(str(order.job_id or "77"), stage, **changes))


def test_the_next_driver_follows_the_job_there_is_and_submits_no_other(queue: FakeQueue, trial: Trial) -> None:
    launcher().start(trial, trial.config)
    for stage in (None, Stage.RUNNING, Stage.REQUEUED, Stage.STOPPED):
        if stage is not None:
            tell(order_of(trial), stage)
        process = launcher().start(trial, trial.config)
        assert process.alive
    assert len(queue.submitted) == 1


@pytest.mark.parametrize("stage", [Stage.FAILED, Stage.FINISHED])
def test_a_job_that_told_its_end_is_followed_by_another_when_the_trial_is_due(
    queue: FakeQueue, trial: Trial, stage: Stage
) -> None:
    launcher().start(trial, trial.config)
    tell(order_of(trial), stage)  # though the queue still lists it
    assert launcher().start(trial, trial.config).alive
    assert len(queue.submitted) == 2


def test_a_job_that_cannot_be_asked_about_is_taken_to_be_alive(queue: FakeQueue, trial: Trial) -> None:
    launcher().start(trial, trial.config)
    queue.states["1"] = State.UNKNOWN
    assert launcher().start(trial, trial.config).alive
    assert len(queue.submitted) == 1

    (note,) = Jobs(Ledger.of("made")).notes().values()
    assert "unknown" in note
    assert f"remove {Ledger.of('made').folder / key_of(trial.name, trial.config)}.json" in note


def test_another_configuration_of_the_same_name_is_another_trial(queue: FakeQueue, trial: Trial) -> None:
    launcher().start(trial, trial.config)
    changed = replace(trial, config=replace(trial.config, model=replace(trial.config.model, dropout=0.25)))
    launcher().start(changed, changed.config)
    assert len(queue.submitted) == 2


def killed_while_submitting(trial: Trial) -> Order:
    """What a driver leaves that dies between `sbatch` and writing the job's number down."""
    launcher().start(trial, trial.config)
    order = replace(order_of(trial), job_id=None, submitted=0.0)
    Ledger.of("made").place(order)
    return order


def test_a_job_whose_number_was_not_written_down_is_found_by_its_own_word(queue: FakeQueue, trial: Trial) -> None:
    order = killed_while_submitting(trial)
    tell(order, Stage.RUNNING)
    queue.states["77"] = State.RUNNING
    process = launcher().start(trial, trial.config)
    assert isinstance(process, FollowedJob)
    assert process.order.job_id == "77"
    assert len(queue.submitted) == 1


def test_a_job_that_nobody_knows_of_leaves_when_it_begins_after_all(
    queue: FakeQueue, trial: Trial, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed_while_submitting(trial)
    assert launcher().start(trial, trial.config).alive
    late, current = queue.submitted
    with pytest.raises(SystemExit, match="another job has this trial"):
        late._begin("1", rank=0)
    assert Ledger.of("made").news(late.token) is None
    assert current._begin("2", rank=0) == order_of(trial)


def test_the_status_of_a_trial_at_work_names_its_job(queue: FakeQueue, trial: Trial) -> None:
    launcher().start(trial, trial.config)
    notes = Jobs(Ledger.of("made")).notes()
    (planned,) = plan([trial], known([], jobs=notes))
    assert (planned.status, planned.note) == (Status.RUNNING, "job 1 of local-process, queued")
    assert not planned.is_due
    queue.states["1"] = State.GONE
    (planned,) = plan([trial], known([], jobs=Jobs(Ledger.of("made")).notes()))
    assert planned.status is Status.MISSING


def test_a_trial_that_ended_while_a_driver_came_is_not_trained_again(queue: FakeQueue, trial: Trial) -> None:
    launcher().start(trial, trial.config)
    tell(order_of(trial), Stage.FINISHED, run_folder="/somewhere")
    process = launcher().adopt(trial)
    assert process is not None
    assert (process.alive, process.exitcode, process.run_folder) == (False, 0, Path("/somewhere"))
    assert len(queue.submitted) == 1


def test_a_job_the_cluster_sent_away_goes_on_in_another_as_often_as_allowed(queue: FakeQueue, trial: Trial) -> None:
    settings = replace(REHEARSAL, max_requeues=2)
    process = ClusterLauncher(settings, "made", 4).start(trial, trial.config)
    for job_id in ("1", "2"):
        queue.states[job_id] = State.GONE
        assert process.alive
    assert len(queue.submitted) == 3
    queue.states["3"] = State.GONE
    assert not process.alive
    assert process.exitcode == 1
    assert process.error == "its node failed"


def test_a_refused_resubmission_is_that_trials_failure(queue: FakeQueue, trial: Trial) -> None:
    process = launcher().start(trial, trial.config)
    queue.states["1"], queue.refuses = State.GONE, True
    assert process.exitcode == 1
    assert process.error == "its node failed; sbatch does not take the job"


def test_a_cancelled_job_does_not_come_back(queue: FakeQueue, trial: Trial) -> None:
    process = launcher().start(trial, trial.config)
    process.terminate()
    process.terminate()
    queue.states["1"] = State.GONE
    assert process.wait(5) == 1
    assert queue.cancelled == ["1"]
    assert len(queue.submitted) == 1


def test_what_a_job_wrote_last_is_waited_for(queue: FakeQueue, trial: Trial) -> None:
    """A network's file system may show it seconds after the queue forgot the job."""
    queue.settle_s = 0.2
    process = launcher().start(trial, trial.config)
    queue.states["1"] = State.GONE
    assert process.alive
    tell(order_of(trial), Stage.FINISHED)
    time.sleep(0.3)
    assert process.exitcode == 0
    assert len(queue.submitted) == 1


def test_a_run_that_began_anew_does_not_begin_anew_in_a_later_job(trial: Trial, tmp_path: Path) -> None:
    anew = replace(trial.config, resume="never")
    assert going_on(anew, tmp_path) == anew
    last = tmp_path / "checkpoints" / "last.ckpt"
    last.parent.mkdir()
    last.touch()
    assert going_on(anew, tmp_path).resume == str(last)
    assert going_on(trial.config, tmp_path).resume == "auto"


def test_a_job_that_gets_nowhere_is_not_requeued_for_ever(queue: FakeQueue, trial: Trial) -> None:
    settings = replace(REHEARSAL, max_requeues=1, timeout_min=30)
    process = ClusterLauncher(settings, "made", 4).start(trial, trial.config)
    (call,) = queue.submitted
    call._begin("1", rank=0)
    assert call.checkpoint().function.token == call.token
    assert process.alive
    call._begin("1", rank=0)
    with pytest.raises(SystemExit):
        call.checkpoint()
    assert process.exitcode == 1
    assert process.error.startswith("its job was requeued 1 times: raise launcher.timeout_min=30")


def test_ranks_are_told_apart_as_torch_wants_it(monkeypatch: pytest.MonkeyPatch) -> None:
    place = {
        "SUBMITIT_EXECUTOR": "slurm",
        "SLURM_JOB_ID": "4007003",
        "SLURM_NTASKS": "8",
        "SLURM_JOB_NUM_NODES": "2",
        "SLURM_JOB_NODELIST": "gpu[07-08]",
        "SLURM_PROCID": "6",
        "SLURM_LOCALID": "2",
        "SLURM_NODEID": "1",
    }
    for name, value in place.items():
        monkeypatch.setenv(name, value)
    found = dict(rank_environment(JobEnvironment()))
    port = int(found.pop("MASTER_PORT"))
    assert 20000 <= port < 32000
    assert found == {
        "RANK": "6",
        "LOCAL_RANK": "2",
        "NODE_RANK": "1",
        "WORLD_SIZE": "8",
        "MASTER_ADDR": "gpu07",
    }


def test_the_first_refusal_is_the_users_to_mend_a_later_one_is_one_trials_failure(
    queue: FakeQueue, tmp_path: Path
) -> None:
    trials = trials_of(write_study(tmp_path / "made"))
    queue.refuses = True
    driver = launcher()
    with pytest.raises(FigleafError, match="sbatch does not take"):
        driver.start(trials[0], trials[0].config)
    queue.refuses = False
    driver.start(trials[0], trials[0].config)
    queue.refuses = True
    refused = driver.start(trials[1], trials[1].config)
    assert isinstance(refused, Refused)
    assert "sbatch does not take" in driver.explain(trials[1], refused)


def test_ctrl_c_while_a_job_is_submitted_cancels_it(queue: FakeQueue, trial: Trial) -> None:
    queue.interrupts = True
    with pytest.raises(KeyboardInterrupt):
        launcher().start(trial, trial.config)
    assert queue.cancelled == ["1"]
    assert order_of(trial).job_id == "1"


def test_what_is_started_undisturbed_does_not_hear_ctrl_c() -> None:
    with undisturbed():
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    child.send_signal(signal.SIGINT)
    time.sleep(0.5)
    assert child.poll() is None
    child.kill()
    child.wait()


def test_an_order_that_is_being_written_is_not_one_yet(queue: FakeQueue, trial: Trial) -> None:
    launcher().start(trial, trial.config)
    ledger = Ledger.of("made")
    (ledger.folder / ".vgg11-drop0-0-abc.json").write_text("{")
    assert list(ledger.orders()) == [key_of(trial.name, trial.config)]


@pytest.mark.parametrize("asked", [Ledger.orders, lambda ledger: ledger.order("a-0-1")])
def test_a_broken_order_is_named(asked: Callable[[Ledger], object], tmp_path: Path) -> None:
    (tmp_path / "a-0-1.json").write_text('{"token": 1}')
    with pytest.raises(FigleafError, match=r"a-0-1\.json: not a file of a study's jobs"):
        asked(Ledger(tmp_path))
