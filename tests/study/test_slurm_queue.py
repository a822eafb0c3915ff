"""What is asked of SLURM, and how its answers are read."""

import os
import shutil
import socket
import time
from dataclasses import replace
from pathlib import Path

import fake_slurm
import psutil
import pytest
from made_up import trials_of, write_study

from figleaf.cli import main
from figleaf.config import LauncherConfig, TrainConfig, compose
from figleaf.errors import FigleafError
from figleaf.study.cluster.job import TrialJob
from figleaf.study.cluster.launcher import parameters_of, threads_of
from figleaf.study.cluster.ledger import Order, Stage
from figleaf.study.cluster.queues import ProcessQueue, SlurmQueue, State
from figleaf.study.launchers import WarmLauncher, open_launcher
from figleaf.study.plan import Trial

SERVER = ["tracking=server"]


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Commands of a SLURM whose jobs stand still: the test writes their states."""
    for name, value in fake_slurm.install(tmp_path / "slurm").items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("LC_ALL", "C")
    return tmp_path / "slurm"


def job(slurm: Path, job_id: str, state: str) -> Order:
    folder = slurm / "jobs" / job_id
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "state").write_text(state)
    return order(job_id)


def order(job_id: str, **changes: object) -> Order:
    known = Order("k", "n", "slurm", {}, "/home", "/", "/logs", socket.gethostname(), 3, 60.0, job_id, time.time())
    return replace(known, **changes)  # type: ignore[arg-type]


def config(*overrides: str) -> TrainConfig:
    made: TrainConfig = compose("train", ["data=digits", "model=debug", *SERVER, *overrides])
    return made


def settings(*overrides: str) -> LauncherConfig:
    made: LauncherConfig = compose("launch", ["launcher=slurm", *overrides]).launcher
    return made


def script(tmp_path: Path, made: TrainConfig, asked: LauncherConfig) -> list[str]:
    """The lines of the job script that submitit would hand to `sbatch`."""
    from submitit import SlurmExecutor

    executor = SlurmExecutor(tmp_path / "logs")
    executor.update_parameters(**parameters_of(made, asked, "depth-vgg16-0"))
    return executor._make_submission_file_text(executor._submitit_command_str, "uid").splitlines()


@pytest.mark.usefixtures("slurm")
def test_the_job_script_asks_for_what_the_launcher_says(tmp_path: Path) -> None:
    asked = settings(
        "launcher.partition=gpu",
        "launcher.account=vision",
        "launcher.qos=long",
        "launcher.constraint=a100",
        "launcher.timeout_min=239.5",
        "launcher.cpus_per_task=6",
        "launcher.mem_gb=31.5",
        "launcher.setup=['module load cuda']",
        "launcher.additional={exclusive:true,nice:100}",
    )
    lines = script(tmp_path, config("trainer=ddp", "trainer.devices=4", "trainer.num_nodes=2"), asked)
    options = {line.removeprefix("#SBATCH --") for line in lines if line.startswith("#SBATCH")}
    assert options >= {
        "job-name=depth-vgg16-0",
        "partition=gpu",
        "account=vision",
        "qos=long",
        "constraint=a100",
        "time=240",
        "signal=USR2@90",
        "nodes=2",
        "ntasks-per-node=4",
        "gpus-per-node=4",
        "cpus-per-task=6",
        "mem=32256M",
        "requeue",
        "exclusive",
        "nice=100",
    }
    assert not any(option.startswith("wckey") for option in options)
    assert lines.index("module load cuda") < next(i for i, line in enumerate(lines) if line.startswith("srun "))
    (srun,) = (line for line in lines if line.startswith("srun "))
    assert "--kill-on-bad-exit=1" in srun
    assert "--cpus-per-task=6" in srun


@pytest.mark.usefixtures("slurm")
def test_by_default_a_job_has_a_core_for_each_process_and_the_gpus_of_its_ranks(tmp_path: Path) -> None:
    on_gpu = script(tmp_path, config("trainer=gpu", "trainer.workers=3"), settings())
    assert "#SBATCH --cpus-per-task=4" in on_gpu
    assert "#SBATCH --gpus-per-node=1" in on_gpu
    on_cpu = script(tmp_path, config(), settings())
    assert not any("gpus" in line or "partition" in line for line in on_cpu)
    assert "#SBATCH --ntasks-per-node=1" in on_cpu
    assert threads_of(config("trainer.workers=3"), settings("launcher.cpus_per_task=8"), jobs=1) == 5
    assert threads_of(config("trainer.workers=3"), settings(), jobs=1) == 1


def test_a_measurement_without_training_is_one_task() -> None:
    made = config("trainer=ddp_cpu")
    method = compose("evaluate", ["run=x"])
    measures = replace(made, evaluation=method)
    assert parameters_of(made, settings(), "n")["ntasks_per_node"] == 2
    assert parameters_of(measures, settings(), "n")["ntasks_per_node"] == 1


def test_states_are_read_of_all_jobs_with_one_question(slurm: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[str]] = []
    run = fake_slurm.subprocess.run

    def counted(command: list[str], **options: object) -> object:
        asked.append(command)
        return run(command, **options)  # type: ignore[call-overload]

    monkeypatch.setattr("figleaf.study.cluster.queues.subprocess.run", counted)
    queue = SlurmQueue()
    orders = [job(slurm, "1", "PENDING"), job(slurm, "2", "RUNNING"), job(slurm, "3", "COMPLETED"), order("4")]
    queue._watched |= {"1", "2", "3", "4"}
    assert [queue.state(o) for o in orders] == [State.QUEUED, State.RUNNING, State.GONE, State.GONE]
    assert len(asked) == 1
    job(slurm, "1", "RUNNING")
    assert queue.state(orders[0]) is State.QUEUED, "not asked again within seconds"


def test_a_single_job_that_slurm_forgot_is_gone_but_a_controller_that_is_silent_says_nothing(slurm: Path) -> None:
    assert SlurmQueue().state(order("9")) is State.GONE
    (slurm / "bin" / "squeue").write_text("#!/bin/sh\necho 'Unable to contact slurm controller' >&2; exit 1\n")
    assert SlurmQueue().state(order("9")) is State.UNKNOWN
    (slurm / "bin" / "squeue").unlink()
    if shutil.which("squeue") is None:
        assert SlurmQueue().state(order("9")) is State.UNKNOWN


@pytest.mark.parametrize(
    ("accounted", "stage", "told", "sent_away"),
    [
        ("CANCELLED by 1000", Stage.STOPPED, "cancelled", False),
        ("OUT_OF_MEMORY", Stage.RUNNING, "launcher.mem_gb", False),
        ("TIMEOUT", Stage.RUNNING, "launcher.signal_delay_s", False),
        ("NODE_FAIL", Stage.RUNNING, "node failed", True),
        ("PREEMPTED", Stage.STOPPED, "more urgent", True),
        ("FAILED", Stage.STOPPED, "SIGTERM", True),
        ("FAILED", Stage.RUNNING, "ended as FAILED without a word", False),
        ("FAILED", None, "before the trial began; FIGLEAF_HOME=/home", False),
        ("RUNNING", Stage.STOPPED, "SIGTERM", False),
    ],
)
def test_why_a_job_is_gone_is_said_and_whether_its_trial_is_sound(
    slurm: Path, accounted: str, stage: Stage | None, told: str, sent_away: bool
) -> None:
    ending = SlurmQueue().ending(job(slurm, "1", accounted), stage)
    assert told in ending.reason
    assert ending.sent_away is sent_away


def test_sbatchs_refusal_reaches_the_user(slurm: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    asked = parameters_of(config(), settings("launcher.partition=nowhere"), "n")
    with pytest.raises(FigleafError, match=r"invalid partition specified: nowhere; correct launcher\.\*"):
        SlurmQueue().submit(TrialJob("/nowhere", "k", "t"), tmp_path / "logs", asked, 3)


def test_without_slurm_the_way_out_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(FigleafError, match=r"srun.*launcher\.executor=local-process"):
        SlurmQueue().submit(TrialJob("/nowhere", "k", "t"), tmp_path, parameters_of(config(), settings(), "n"), 3)


def test_a_process_that_inherited_a_jobs_number_is_not_the_job() -> None:
    queue, own = ProcessQueue(), psutil.Process()
    ours = order(str(own.pid), executor="local-process")
    assert queue.state(ours) is State.RUNNING
    assert queue.state(replace(ours, submitted=own.create_time() - 60)) is State.GONE
    assert queue.state(replace(ours, host="elsewhere")) is State.UNKNOWN
    assert queue.state(replace(ours, job_id=str(dead_pid()))) is State.GONE


def dead_pid() -> int:
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    return pid


@pytest.fixture
def trials(tmp_path: Path) -> list[Trial]:
    return trials_of(write_study(tmp_path / "made"))


def on_server(trials: list[Trial]) -> list[Trial]:
    server = compose("train", SERVER).tracking
    return [replace(trial, config=replace(trial.config, tracking=server)) for trial in trials]


def test_a_cluster_does_not_share_sqlite(trials: list[Trial]) -> None:
    with pytest.raises(FigleafError, match=r"tracking\.uri=null: .*SQLite.*tracking=server"):
        open_launcher(settings(), "made", trials, None)
    assert open_launcher(settings(), "made", on_server(trials), None).jobs == len(trials)
    assert open_launcher(settings("launcher.executor=local-process"), "made", trials, 3).jobs == 3


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        (["launcher.partition=gpu"], "launcher.partition=gpu: no jobs are submitted here; pass launcher=slurm, too"),
        (["launcher=slurm", "launcher.timeout_min=1"], "launcher.signal_delay_s=90: expected less than"),
        (
            ["launcher=slurm", "launcher.executor=local-process", "launcher.setup=[ls]"],
            "launcher.setup=.*has no job script",
        ),
    ],
)
def test_settings_that_do_not_go_together_are_refused(trials: list[Trial], overrides: list[str], told: str) -> None:
    with pytest.raises(FigleafError, match=told):
        open_launcher(compose("launch", overrides).launcher, "made", on_server(trials), None)


def test_one_machine_does_not_rehearse_two(trials: list[Trial]) -> None:
    two = replace(trials[0].config, trainer=replace(trials[0].config.trainer, num_nodes=2))
    with pytest.raises(FigleafError, match=r"trainer\.num_nodes=2"):
        open_launcher(settings("launcher.executor=local-process"), "made", [replace(trials[0], config=two)], None)


def test_without_a_word_about_launchers_trials_run_here(trials: list[Trial]) -> None:
    assert isinstance(open_launcher(compose("launch").launcher, "made", trials, 2), WarmLauncher)


def test_the_command_line_knows_launchers(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    with pytest.raises(SystemExit):
        main(["study", "run", "--help"])
    told = capsys.readouterr().out
    for text in ("launcher={local,slurm}", "launcher.max_requeues=10", "follows those that wait or work", "all nodes"):
        assert text in told
    assert main(["study", "run", "demo", "launcher=slurm", "launcher.partitoin=gpu"]) == 2
    assert "did you mean launcher.partition?" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["study", "status", "demo", "launcher=slurm"])
    assert "only `run` and `reproduce` launch anything" in capsys.readouterr().err
