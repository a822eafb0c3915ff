"""A SLURM of this one machine for tests: `install` puts commands on a PATH that run jobs as processes.

Jobs go through PENDING, RUNNING, and COMPLETED, FAILED or CANCELLED, as `squeue` and `sacct` say; `scancel` sends
SIGTERM, or any signal with --signal; `scontrol requeue` ends a job and has it begin again. What is asked of a job
beyond its tasks is ignored, but for a partition called nowhere, which is refused.
"""

import json
import os
import re
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

COMMANDS = ("sbatch", "srun", "squeue", "sacct", "scancel", "scontrol")
PLACE = "FAKE_SLURM"
OWN = f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); import fake_slurm"


def install(folder: Path) -> dict[str, str]:
    """Make the commands in `folder`; the environment in which they are found."""
    (folder / "bin").mkdir(parents=True)
    for name in COMMANDS:
        command = folder / "bin" / name
        command.write_text(f"#!{sys.executable}\n{OWN}\nsys.exit(fake_slurm.{name}(sys.argv[1:]))\n")
        command.chmod(0o755)
    return {PLACE: str(folder), "PATH": f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}"}


def job(job_id: str) -> Path:
    return Path(os.environ[PLACE]) / "jobs" / job_id


def state(job_id: str) -> str:
    return (job(job_id) / "state").read_text()


def set_state(job_id: str, text: str) -> None:
    temporary = job(job_id) / f"state.{os.getpid()}"
    temporary.write_text(text)
    temporary.replace(job(job_id) / "state")


def tasks(job_id: str) -> list[int]:
    """Process ids of the job's tasks, by rank."""
    file = job(job_id) / "tasks.json"
    return json.loads(file.read_text()) if file.exists() else []


def send(job_id: str, number: int) -> None:
    for pid in tasks(job_id):
        with suppress(ProcessLookupError):
            os.kill(pid, number)


def sbatch(arguments: list[str]) -> int:
    script = Path(arguments[-1])
    wanted = dict(re.findall(r"^#SBATCH --([a-z-]+)(?:=(.*))?$", script.read_text(), re.MULTILINE))
    if wanted.get("partition") == "nowhere":
        print("sbatch: error: invalid partition specified: nowhere", file=sys.stderr)
        return 1
    number = 1
    while True:
        try:
            job(str(number)).mkdir(parents=True)
            break
        except FileExistsError:
            number += 1
    job_id = str(number)
    (job(job_id) / "script.sh").write_text(script.read_text())
    (job(job_id) / "wanted.json").write_text(json.dumps(wanted))
    set_state(job_id, "PENDING")
    subprocess.Popen(
        [sys.executable, "-c", f"{OWN}; fake_slurm.work({job_id!r})"],
        start_new_session=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    print(f"Submitted batch job {job_id}")
    return 0


def work(job_id: str) -> None:
    """The controller's side of a job: run its script, again after a requeue."""
    wanted = json.loads((job(job_id) / "wanted.json").read_text())
    count = int(wanted["nodes"]) * int(wanted["ntasks-per-node"])
    for restarts in range(100):
        with suppress(FileNotFoundError):
            (job(job_id) / "requeue").unlink()
        if (job(job_id) / "cancelled").exists():
            break
        set_state(job_id, "RUNNING")
        environment = {
            "SLURM_JOB_ID": job_id,
            "SLURM_JOB_NAME": wanted["job-name"],
            "SLURM_NTASKS": str(count),
            "SLURM_NTASKS_PER_NODE": wanted["ntasks-per-node"],
            "SLURM_JOB_NUM_NODES": wanted["nodes"],
            "SLURM_JOB_NODELIST": "localhost",
            "SLURM_RESTART_COUNT": str(restarts),
        }
        log = Path(wanted["output"].replace("%j", job_id))
        with log.open("ab") as output:
            done = subprocess.run(
                ["bash", str(job(job_id) / "script.sh")],
                env={**os.environ, **environment},
                stdout=output,
                stderr=output,
                check=False,
            )
        if not (job(job_id) / "requeue").exists():
            break
        set_state(job_id, "PENDING")
        time.sleep(0.5)
    cancelled = (job(job_id) / "cancelled").exists()
    set_state(job_id, "CANCELLED by 0" if cancelled else "COMPLETED" if done.returncode == 0 else "FAILED")


def srun(arguments: list[str]) -> int:
    output = Path(arguments[arguments.index("--output") + 1])
    command = arguments[next(i for i, text in enumerate(arguments) if text.endswith("python") or "/python" in text) :]
    job_id, count = os.environ["SLURM_JOB_ID"], int(os.environ["SLURM_NTASKS"])
    running = []
    for rank in range(count):
        log = Path(str(output).replace("%j", job_id).replace("%t", str(rank)))
        place = {"SLURM_PROCID": str(rank), "SLURM_LOCALID": str(rank), "SLURM_NODEID": "0"}
        with log.open("ab") as file:
            running.append(subprocess.Popen(command, env={**os.environ, **place}, stdout=file, stderr=file))
    temporary = job(job_id) / "tasks.new"
    temporary.write_text(json.dumps([process.pid for process in running]))
    temporary.replace(job(job_id) / "tasks.json")
    code, deadline = 0, None
    while any(process.poll() is None for process in running):
        codes = [process.poll() for process in running]
        bad = next((c for c in codes if c), 0)
        ends = (job(job_id) / "requeue").exists() or (job(job_id) / "cancelled").exists()
        if (bad or ends) and deadline is None:
            deadline, code = time.monotonic() + 20, bad or 1
            if "--kill-on-bad-exit=1" in arguments or ends:
                for process in running:
                    process.send_signal(signal.SIGTERM)
        if deadline is not None and time.monotonic() > deadline:
            (job(job_id) / "killed").touch()
            for process in running:
                process.kill()
        time.sleep(0.1)
    return code or max(abs(process.returncode) for process in running)


def squeue(arguments: list[str]) -> int:
    asked = arguments[arguments.index("--jobs") + 1].split(",")
    if len(asked) == 1 and not job(asked[0]).exists():
        print("slurm_load_jobs error: Invalid job id specified", file=sys.stderr)
        return 1
    for job_id in asked:
        if job(job_id).exists() and state(job_id) in ("PENDING", "RUNNING"):
            print(job_id, state(job_id))
    return 0


def sacct(arguments: list[str]) -> int:
    job_id = arguments[arguments.index("--jobs") + 1]
    print(state(job_id))
    return 0


def scancel(arguments: list[str]) -> int:
    if "--signal" in arguments:
        send(arguments[0], getattr(signal, f"SIG{arguments[-1]}"))
        return 0
    (job(arguments[0]) / "cancelled").touch()
    return 0


def scontrol(arguments: list[str]) -> int:
    assert arguments[0] == "requeue", arguments
    (job(arguments[1]) / "requeue").touch()
    return 0
