"""`figleaf export`: the pictures to compare on, and what is said when there are none."""

from pathlib import Path

import pytest

from figleaf.commands.export import _pictures
from figleaf.config import DataConfig, ExportConfig, TrackingConfig
from figleaf.errors import FigleafError


def chosen(images: str | None, manifest: Path) -> list[Path]:
    config = ExportConfig(run="latest", tracking=TrackingConfig(), images=images)
    return _pictures(config, DataConfig(manifest=str(manifest), calib_fraction=0))


def test_run_whose_manifest_has_moved_can_be_compared_on_other_pictures(tmp_path: Path) -> None:
    with pytest.raises(FigleafError, match=r"the run's own pictures.* gone\.csv: no such file.* images=FOLDER"):
        chosen(None, Path("gone.csv"))
    (tmp_path / "a.png").touch()
    assert chosen(str(tmp_path), Path("gone.csv")) == [tmp_path / "a.png"]


def test_folder_that_is_not_there_is_told_from_an_empty_one(tmp_path: Path) -> None:
    with pytest.raises(FigleafError, match=r"images=.*gone: no such folder"):
        chosen(str(tmp_path / "gone"), Path("m.csv"))
    with pytest.raises(FigleafError, match="no pictures there"):
        chosen(str(tmp_path), Path("m.csv"))


def test_pictures_of_the_test_split_are_chosen(tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_text("path,label,split\na.jpg,sfw,test\nb.jpg,nsfw,train\nc.jpg,nsfw,test\n")
    assert chosen(None, tmp_path / "m.csv") == [tmp_path / "a.jpg", tmp_path / "c.jpg"]
