"""Tricks of archives that are held nowhere else: names, sizes and headers that lie."""

import io
import struct
import tarfile
import tracemalloc
import warnings
import zipfile
from pathlib import Path

import pytest
from PIL import Image

from figleaf.data.decode import DecodeError
from figleaf.serve import items
from figleaf.serve.items import items_of
from small_vgg import pictures


def tar_with(path: Path, *members: tuple[tarfile.TarInfo, bytes]) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for member, content in members:
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


def member(name: str, kind: bytes = tarfile.REGTYPE, to: str = "") -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    made.type, made.linkname = kind, to
    return made


def test_members_of_archives_are_only_read(tmp_path: Path) -> None:
    """Absolute names, names that climb, links of both kinds, devices and pipes: nothing outside is read or written."""
    (tmp_path / "secret").write_bytes(b"secret")
    picture = io.BytesIO()
    Image.fromarray(pictures()[0]).save(picture, "PNG")
    png = picture.getvalue()
    outside = str(tmp_path / "written.png")
    archive = tar_with(
        tmp_path / "a.tar.gz",
        (member(outside), png),
        (member("../climbed.png"), png),
        (member("soft.png", tarfile.SYMTYPE, str(tmp_path / "secret")), b""),
        (member("hard.png", tarfile.LNKTYPE, str(tmp_path / "secret")), b""),
        (member("null.png", tarfile.CHRTYPE), b""),
        (member("disk.png", tarfile.BLKTYPE), b""),
        (member("pipe.png", tarfile.FIFOTYPE), b""),
    )
    found = list(items_of([str(archive)]))
    names = [outside.lstrip("/"), "../climbed.png", "soft.png", "hard.png", "null.png", "disk.png", "pipe.png"]
    assert [item.name.rpartition("::")[2].lstrip("/") for item in found] == names
    assert [item.read() for item in found[:2]] == [png, png]
    for number, item in enumerate(found[2:]):
        with pytest.raises(DecodeError, match="a link, not a file" if number < 2 else "not a regular file"):
            item.read()
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as zipped:
        for name in (outside, "../climbed.png", "..\\climbed.png"):
            zipped.writestr(name, png)
        link = zipfile.ZipInfo("link.png")
        link.external_attr = 0o120777 << 16
        zipped.writestr(link, str(tmp_path / "secret"))
    *plain, linked = items_of([str(tmp_path / "a.zip")])
    assert [item.read() for item in plain] == [png] * 3
    with pytest.raises(DecodeError, match="a link, not a file"):
        linked.read()
    assert {path.name for path in tmp_path.iterdir()} == {"a.tar.gz", "a.zip", "secret"}
    assert not (tmp_path.parent / "climbed.png").exists()


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_no_member_hides_behind_another_of_its_name(kind: str, tmp_path: Path) -> None:
    path, names = tmp_path / f"a.{kind}", ["a.png", "b.png", "a.png", "a.png#2", "a.png"]
    contents = [bytes([number]) for number in range(len(names))]
    if kind == "tar":
        tar_with(path, *((member(name), content) for name, content in zip(names, contents, strict=True)))
    else:
        with zipfile.ZipFile(path, "w") as archive, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the name that is there twice
            for name, content in zip(names, contents, strict=True):
                archive.writestr(name, content)
    found = list(items_of([str(path)]))
    assert [item.read() for item in found] == contents
    told = [item.name.removeprefix(f"{path}::") for item in found]
    assert told == ["a.png", "b.png", "a.png#2", "a.png#2#2", "a.png#3"]


def test_an_archive_that_has_lost_its_end_is_no_picture(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("a.png", bytes(1000))
    content = (tmp_path / "a.zip").read_bytes()
    (tmp_path / "a.zip").write_bytes(content[:-30])
    (tmp_path / "picture.zip").write_bytes(b"no archive")
    cut, other = items_of([str(tmp_path / "a.zip"), str(tmp_path / "picture.zip")])
    with pytest.raises(DecodeError, match="a broken archive"):
        cut.read()
    assert other.read() == b"no archive", "a picture may have any name"


@pytest.mark.parametrize("declared", [10, 2**31])
def test_a_size_that_a_zip_declares_is_not_believed(
    declared: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(items, "MEMBER_MAX_BYTES", 1000)
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("bomb.png", b"\0" * 5_000_000)
    content = (tmp_path / "a.zip").read_bytes()
    lying = content.replace(struct.pack("<I", 5_000_000), struct.pack("<I", declared))
    assert lying != content
    (tmp_path / "a.zip").write_bytes(lying)
    (item,) = items_of([str(tmp_path / "a.zip")])
    with pytest.raises(DecodeError, match=r"unpacks to more than 1,000 bytes|cannot be unpacked"):
        item.read()


def test_a_tar_archive_unpacks_to_no_more_than_the_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(items, "MEMBER_MAX_BYTES", 1000)
    archive = tar_with(tmp_path / "a.tgz", (member("bomb.png"), b"\0" * 5_000_000), (member("b.png"), b"after"))
    bomb, after = items_of([str(archive)])
    with pytest.raises(DecodeError, match="unpacks to more than 1,000 bytes"):
        bomb.read()
    assert after.read() == b"after"


@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK])
@pytest.mark.parametrize("is_first", [True, False])
def test_a_name_that_fills_the_memory_is_not_read(kind: bytes, is_first: bool, tmp_path: Path) -> None:
    """tarfile reads such a header whole: some kilobytes of archive may say that it holds any number of gigabytes."""
    first = [] if is_first else [(member("a.png"), b"first")]
    archive = tar_with(tmp_path / "a.tar.gz", *first, (member("x", kind), b"\0" * (48 << 20)), (member("b"), b"x"))
    assert archive.stat().st_size < 200_000
    tracemalloc.start()
    found = list(items_of([str(archive)]))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 16 << 20
    assert len(found) == (1 if is_first else 2)
    if not is_first:
        assert found[0].read() == b"first"
        with pytest.raises(DecodeError, match="broken archive: a name of 50,331,648 bytes"):
            found[1].read()
