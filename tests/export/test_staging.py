"""Where an export is made: alone in its folder, tidy after a kill, and with a word when the disk is full."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from test_bundle import FACTS, network, pictures, tree

from figleaf.errors import FigleafError
from figleaf.export.bundle import export_bundle
from figleaf.export.staging import ASIDE, staging_in

HERE = Path(__file__).parent
EXPORT = """
import resource, sys
sys.path[:0] = sys.argv[4:]
from pathlib import Path
from test_bundle import FACTS, network, pictures
from figleaf.errors import FigleafError
from figleaf.export.bundle import export_bundle
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]), int(sys.argv[3])))
try:
    export_bundle(network(), out=Path(sys.argv[2]), formats=[sys.argv[1]], facts=FACTS, pictures=pictures())
except FigleafError as error:
    sys.exit(f"told: {error}")
"""


def export_with_small_files(form: str, out: Path, limit: int) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", EXPORT, form, str(out), str(limit), str(HERE), str(HERE.parent)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_a_program_that_does_not_fit_is_told_and_does_not_end_the_process(tmp_path: Path) -> None:
    export_bundle(network(), out=tmp_path, formats=["pt2"], facts=FACTS, pictures=pictures())
    before = tree(tmp_path)
    fits = (tmp_path / "model.pt2").stat().st_size
    done = export_with_small_files("pt2", tmp_path, fits - 1000)
    assert done.returncode == 1, done.stderr  # not a signal
    assert "told: cannot write" in done.stderr
    assert "model.pt2: a file may not be so large there" in done.stderr
    assert tree(tmp_path) == before


HOLD = """
import sys, time
from pathlib import Path
from figleaf.export.staging import staging_in
with staging_in(Path(sys.argv[1])) as staging:
    (staging / "model.onnx").write_text("half")
    if len(sys.argv) > 2:
        (staging / sys.argv[2]).mkdir()
    print("here", flush=True)
    time.sleep(60)
"""


def holder(out: Path, *more: str) -> subprocess.Popen[str]:
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(out), *more], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "here\n"
    return process


def kill(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGKILL)
    process.wait()


def test_a_second_export_into_the_folder_is_refused_and_harms_nothing(tmp_path: Path) -> None:
    process = holder(tmp_path)
    try:
        before = tree(tmp_path)
        start = time.monotonic()
        with pytest.raises(FigleafError, match="another process is exporting into this folder"):
            export_bundle(network(), out=tmp_path, formats=["safetensors"], facts=FACTS, pictures=pictures())
        assert time.monotonic() - start < 30, "it does not wait for the other"
        assert tree(tmp_path) == before
    finally:
        kill(process)


def test_what_a_killed_export_left_is_gone_after_the_next(tmp_path: Path) -> None:
    kill(holder(tmp_path))
    assert list(tmp_path.glob(".export-*"))
    export_bundle(network(), out=tmp_path, formats=["safetensors"], facts=FACTS, pictures=pictures())
    assert not [path.name for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_files_that_a_killed_export_had_put_aside_stay_until_there_are_others(tmp_path: Path) -> None:
    kill(holder(tmp_path, ASIDE))
    (left,) = tmp_path.glob(".export-*")
    with pytest.raises(FigleafError, match="no readable picture"):
        export_bundle(network(), out=tmp_path, formats=["safetensors"], facts=FACTS, pictures=[])
    with pytest.raises(RuntimeError), staging_in(tmp_path):
        raise RuntimeError
    assert left.is_dir()
    with staging_in(tmp_path):
        assert left.is_dir()
    assert not list(tmp_path.iterdir())
