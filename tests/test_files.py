"""A file is the old one or the new one; a disk that cannot take it is explained."""

import errno
import os
from pathlib import Path

import pytest

from figleaf.errors import FigleafError
from figleaf.files import atomic_path, sha256_file, write_text


def test_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    target = write_text(tmp_path / "a.txt", "old")
    with pytest.raises(UnicodeEncodeError):
        write_text(target, "half of the new \udcff")
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES])
def test_disk_that_cannot_take_it_is_explained(number: int, tmp_path: Path) -> None:
    with pytest.raises(FigleafError, match="FIGLEAF_HOME") as caught, atomic_path(tmp_path / "a"):
        raise OSError(number, os.strerror(number))
    assert str(tmp_path / "a") in str(caught.value)


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs Linux's /proc, where nobody can make a folder")
@pytest.mark.parametrize("place", ["/proc/figleaf/a", "/proc/a", "/proc/a.csv"])
def test_place_where_nobody_can_make_a_file_is_explained(place: str) -> None:
    with pytest.raises(FigleafError, match=rf"{place}: it cannot be made there.*FIGLEAF_HOME"):
        write_text(Path(place), "")


@pytest.mark.parametrize("name", ["x" * 300, "loop/a"])
def test_name_that_no_disk_takes_is_explained(tmp_path: Path, name: str) -> None:
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(FigleafError, match="name another place"):
        write_text(tmp_path / name / "a", "")


def test_file_to_be_read_that_is_missing_is_not_blamed_on_the_one_to_be_written(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), atomic_path(tmp_path / "a"):
        (tmp_path / "missing").read_text()


def test_other_trouble_is_not_disguised(tmp_path: Path) -> None:
    with pytest.raises(InterruptedError), atomic_path(tmp_path / "a"):
        raise InterruptedError(errno.EINTR, "interrupted")


def test_hash_is_that_of_the_bytes(tmp_path: Path) -> None:
    empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    assert sha256_file(write_text(tmp_path / "a", "")) == empty
