"""`figleaf train`: what it says of a run that was finished before."""

from pathlib import Path

import pytest

from figleaf.cli import main

TRAIN = ["train", "data=digits", "model=debug", "trainer.epochs=1", "trainer.intervals=0", "trainer.threads=1"]


def said(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    assert main(arguments) == 0
    return capsys.readouterr().err


def test_what_cannot_change_a_finished_run_is_said_to_change_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "finished before" not in said([*TRAIN, "name=first"], capsys)
    assert "finished before; resume=never" in said(TRAIN, capsys), "nothing was given that could be ignored"
    assert "finished before; resume=never" in said([*TRAIN, "name=first"], capsys)
    again = said([*TRAIN, "name=second", f"tracking.uri=sqlite:///{tmp_path}/secret.db"], capsys)
    assert "finished before; name= and tracking.uri= given now changed nothing of it; resume=never" in again
    assert "secret" not in again
    assert not (tmp_path / "secret.db").exists()


@pytest.mark.parametrize("several", ["trainer=ddp_cpu", "trainer.devices=1,2", "trainer.num_nodes=2"])
def test_a_grid_over_several_devices_is_refused_with_the_way_out(
    several: str, capsys: pytest.CaptureFixture[str], home: Path
) -> None:
    assert main([*TRAIN, "-m", "seed=1,2", several]) == 2
    told = capsys.readouterr().err
    assert "=2" in told
    assert "`figleaf study run NAME`" in told
    assert not (home / "runs").exists(), "nothing was trained"
