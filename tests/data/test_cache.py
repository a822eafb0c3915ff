import errno
import hashlib
import logging
import multiprocessing
import os
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Barrier
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from bad_images import write_bad_corpus
from figleaf.data import cache, content
from figleaf.data.cache import DecodedImages, data_hash, decode_cached
from figleaf.data.decode import decode, resize
from figleaf.data.manifest import Manifest, sample_id
from figleaf.errors import FigleafError

N = 12


def write_pictures(root: Path, n: int = N, seed: int = 0) -> Manifest:
    rng = np.random.default_rng(seed)
    root.mkdir(parents=True, exist_ok=True)
    for index in range(n):
        path = root / f"{index:03d}.png"
        Image.fromarray(rng.integers(0, 256, (20, 30, 3), dtype=np.uint8)).save(path)
        os.utime(path, (1e9, 1e9))  # long ago: hashes of files changed this second are not remembered
    return manifest_of(root, [f"{index:03d}.png" for index in range(n)])


def manifest_of(root: Path, ids: list[str]) -> Manifest:
    rows = pd.DataFrame({"path": ids, "label": "nsfw", "split": "train"})
    return Manifest.from_table(rows, root=root, name="test")


def entries(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.npy"))


@pytest.fixture
def no_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path) -> bytes:
        raise AssertionError(f"{path} was read again")

    monkeypatch.setattr(content, "read_bytes", refuse)
    monkeypatch.setattr(cache, "read_bytes", refuse)


def test_the_cache_holds_what_decode_and_resize_give(tmp_path: Path) -> None:
    m = write_pictures(tmp_path / "data")
    decoded = decode_cached(m, 16, folder=tmp_path / "cache")
    assert isinstance(decoded.pixels, np.memmap)
    assert decoded.pixels.shape == (N, 16, 16, 3)
    assert decoded.errors == (None,) * N
    for path, pixels in zip(m.paths, decoded.pixels, strict=True):
        np.testing.assert_array_equal(pixels, resize(decode(path), 16))
    with pytest.raises(ValueError, match="read-only"):
        decoded.pixels[0] = 0


def test_a_second_opening_reads_no_picture(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    m = write_pictures(tmp_path / "data")
    first = decode_cached(m, 16, folder=tmp_path / "cache")
    request.getfixturevalue("no_reading")
    second = decode_cached(m, 16, folder=tmp_path / "cache")
    np.testing.assert_array_equal(first.pixels, second.pixels)
    assert first.content_sha256 == second.content_sha256


def test_other_splits_of_the_same_pictures_share_the_entry(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    m = write_pictures(tmp_path / "data")
    decode_cached(m, 16, folder=tmp_path / "cache")
    request.getfixturevalue("no_reading")
    decode_cached(m.with_table(m.table.assign(split="test", label="nsfw")), 16, folder=tmp_path / "cache")
    assert len(entries(tmp_path / "cache")) == 1


def test_a_changed_picture_is_decoded_again(tmp_path: Path) -> None:
    m = write_pictures(tmp_path / "data")
    before = decode_cached(m, 16, folder=tmp_path / "cache")
    Image.new("RGB", (30, 20), "red").save(m.paths[3])
    after = decode_cached(m, 16, folder=tmp_path / "cache")
    assert before.content_sha256[3] != after.content_sha256[3]
    assert (after.pixels[3] == (255, 0, 0)).all()
    assert data_hash(m, before.content_sha256) != data_hash(m, after.content_sha256)


def test_a_change_that_keeps_the_size_is_seen(tmp_path: Path) -> None:
    m = write_pictures(tmp_path / "data", 1)
    for year, color in enumerate(("red", "blue")):
        Image.new("RGB", (30, 20), color).save(m.paths[0], compress_level=0)  # the same number of bytes
        os.utime(m.paths[0], (1e9 + year, 1e9 + year))
        decoded = decode_cached(m, 16, folder=tmp_path / "cache")
    assert (decoded.pixels[0] == (0, 0, 255)).all()


def test_a_change_within_the_clocks_tick_is_seen(tmp_path: Path) -> None:
    m = write_pictures(tmp_path / "data", 1)
    now = time.time_ns()
    for color in ("red", "blue"):
        Image.new("RGB", (30, 20), color).save(m.paths[0], compress_level=0)  # the same number of bytes
        os.utime(m.paths[0], ns=(now, now))
        decoded = decode_cached(m, 16, folder=tmp_path / "cache")
    assert (decoded.pixels[0] == (0, 0, 255)).all()


def test_size_and_pixel_limit_make_entries_of_their_own(tmp_path: Path) -> None:
    m = write_pictures(tmp_path / "data")
    assert decode_cached(m, 16, folder=tmp_path).pixels.shape == (N, 16, 16, 3)
    assert decode_cached(m, 8, folder=tmp_path).pixels.shape == (N, 8, 8, 3)
    assert not decode_cached(m, 8, folder=tmp_path, max_pixels=10).usable.any()
    assert len(entries(tmp_path)) == 3


def test_every_bad_file_is_an_error_row_and_every_other_a_picture(tmp_path: Path) -> None:
    corpus = write_bad_corpus(tmp_path / "bad")
    m = manifest_of(tmp_path / "bad", [sample_id(image.path.relative_to(tmp_path / "bad")) for image in corpus])
    for _ in range(2):  # made, then opened
        decoded = decode_cached(m, 16, folder=tmp_path / "cache")
        assert decoded.usable.tolist() == [image.decodes for image in corpus]
        for image, error, sha256 in zip(corpus, decoded.errors, decoded.content_sha256, strict=True):
            assert image.reason in (error or "")
            assert len(sha256) == 64 or error is not None


def test_a_file_that_appears_later_is_no_error_any_more(tmp_path: Path) -> None:
    m = write_pictures(tmp_path / "data")
    kept = m.paths[0].read_bytes()
    m.paths[0].unlink()
    assert decode_cached(m, 16, folder=tmp_path / "cache").errors[0] == "no such file"
    m.paths[0].write_bytes(kept)
    assert decode_cached(m, 16, folder=tmp_path / "cache").usable.all()


def test_the_entry_unused_for_longest_makes_room(tmp_path: Path) -> None:
    m = write_pictures(tmp_path / "data")
    one = N * 16 * 16 * 3 + 128
    mapped = decode_cached(m, 16, folder=tmp_path / "cache")
    notes = {}
    for age, size in ((300, 16), (200, 15)):
        known = set((tmp_path / "cache").glob("*.json"))
        decode_cached(m, size, folder=tmp_path / "cache", limit_bytes=2 * one)
        notes[size] = next(iter(set((tmp_path / "cache").glob("*.json")) - known), *known)
        os.utime(notes[size], (time.time() - age,) * 2)
    decode_cached(m, 16, folder=tmp_path / "cache")  # used again: now 15 is the oldest
    decode_cached(m, 14, folder=tmp_path / "cache", limit_bytes=2 * one)
    assert notes[16].exists()
    assert not notes[15].exists()
    assert len(entries(tmp_path / "cache")) == 2
    assert mapped.pixels[0].any()


def test_evicted_pictures_stay_readable_where_they_are_mapped(tmp_path: Path) -> None:
    m = write_pictures(tmp_path / "data")
    mapped = decode_cached(m, 16, folder=tmp_path / "cache")
    decode_cached(m, 15, folder=tmp_path / "cache", limit_bytes=N * 16 * 16 * 3)
    assert len(entries(tmp_path / "cache")) == 1
    np.testing.assert_array_equal(mapped.pixels[5], resize(decode(m.paths[5]), 16))


@contextmanager
def no_log_warning() -> Iterator[None]:
    class Refuse(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            raise AssertionError(record.getMessage())

    logger, refuse = logging.getLogger("figleaf"), Refuse(logging.WARNING)
    logger.addHandler(refuse)
    try:
        yield
    finally:
        logger.removeHandler(refuse)


def assert_kept_in_memory(m: Manifest, folder: Path, message: str, **options: int) -> DecodedImages:
    with pytest.warns(RuntimeWarning, match=message) as caught, no_log_warning():
        decoded = decode_cached(m, 16, folder=folder, **options)
    assert len([w for w in caught if w.category is RuntimeWarning]) == 1
    assert not isinstance(decoded.pixels, np.memmap)
    np.testing.assert_array_equal(decoded.pixels[5], resize(decode(m.paths[5]), 16))
    with pytest.raises(ValueError, match="read-only"):
        decoded.pixels[0] = 0
    return decoded


def test_a_full_disk_is_one_warning_and_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    assert_kept_in_memory(write_pictures(tmp_path / "data"), tmp_path / "cache", "No space left")
    assert {path.name for path in (tmp_path / "cache").iterdir()} == {".lock", "hashes.sqlite"}


def test_a_folder_that_cannot_be_made_is_one_warning(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    assert_kept_in_memory(write_pictures(tmp_path / "data"), tmp_path / "file" / "cache", "cannot hold")


def test_data_beyond_the_limit_is_one_warning_and_evicts_nothing(tmp_path: Path) -> None:
    m = write_pictures(tmp_path / "data")
    decode_cached(m, 8, folder=tmp_path / "cache")
    assert_kept_in_memory(m, tmp_path / "cache", "limit", limit_bytes=1000)
    assert len(entries(tmp_path / "cache")) == 1


def test_data_beyond_disk_and_memory_is_a_clear_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache.psutil, "virtual_memory", lambda: type("Memory", (), {"available": 10}))
    with pytest.raises(FigleafError, match=r"9,216 bytes.*data\.cache_gb"):
        decode_cached(write_pictures(tmp_path / "data"), 16, folder=tmp_path / "cache", limit_bytes=1000)


def test_a_file_that_changes_meanwhile_is_not_cached_under_its_old_content(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    m = write_pictures(tmp_path / "data")
    monkeypatch.setattr(cache, "read_bytes", lambda path: b"something else")
    with pytest.raises(FigleafError, match="changed while"):
        decode_cached(m, 16, folder=tmp_path / "cache")
    assert entries(tmp_path / "cache") == []


@pytest.mark.parametrize("damage", ["pixels", "note", "hashes"])
def test_a_damaged_cache_is_made_again(tmp_path: Path, damage: str, request: pytest.FixtureRequest) -> None:
    m = write_pictures(tmp_path / "data")
    before = np.array(decode_cached(m, 16, folder=tmp_path / "cache").pixels)
    pattern = {"pixels": "*.npy", "note": "*.json", "hashes": "hashes.sqlite"}[damage]
    next((tmp_path / "cache").glob(pattern)).write_bytes(b"\x93NUMPY damaged")
    np.testing.assert_array_equal(decode_cached(m, 16, folder=tmp_path / "cache").pixels, before)
    request.getfixturevalue("no_reading")
    np.testing.assert_array_equal(decode_cached(m, 16, folder=tmp_path / "cache").pixels, before)


def test_what_a_killed_process_left_is_cleared_away(tmp_path: Path) -> None:
    m = write_pictures(tmp_path / "data")
    orphan = tmp_path / "cache" / ".0123.npy"
    orphan.parent.mkdir()
    orphan.write_bytes(bytes(1000))
    decode_cached(m, 16, folder=tmp_path / "cache")
    assert not orphan.exists()


def open_at_once(barrier: Barrier, answers: "Queue[tuple[int, str, bool]]", m: Manifest, folder: Path) -> None:
    built = []
    build = cache._build
    cache._build = lambda entry, plan: built.append(entry) or build(entry, plan)
    barrier.wait()
    decoded = decode_cached(m, 48, folder=folder, workers=2)
    answers.put((len(built), hashlib.sha256(decoded.pixels.tobytes()).hexdigest(), bool(decoded.usable.all())))


def test_six_processes_that_start_at_once_decode_once_and_agree(tmp_path: Path) -> None:
    m = write_pictures(tmp_path / "data", 200)
    fork = multiprocessing.get_context("fork")
    barrier, answers = fork.Barrier(6), fork.Queue()
    arguments = (barrier, answers, m, tmp_path / "cache")
    processes = [fork.Process(target=open_at_once, args=arguments) for _ in range(6)]
    for process in processes:
        process.start()
    built, pixels, usable = zip(*(answers.get(timeout=60) for _ in processes), strict=True)
    for process in processes:
        process.join(60)
    assert sum(built) == 1
    assert len(set(pixels)) == 1
    assert all(usable)


def test_nothing_is_warned_of_in_the_ordinary_case(tmp_path: Path) -> None:
    m = write_pictures(tmp_path / "data")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(2):
            decode_cached(m, 16, folder=tmp_path / "cache")


def test_the_data_hash_follows_content_and_rows_but_not_the_place(tmp_path: Path) -> None:
    here, there = write_pictures(tmp_path / "here"), write_pictures(tmp_path / "there")
    hashes = [decode_cached(m, 8, folder=tmp_path / "cache").content_sha256 for m in (here, there)]
    assert data_hash(here, hashes[0]) == data_hash(there, hashes[1])
    assert data_hash(here.with_table(here.table.assign(split="test")), hashes[0]) != data_hash(here, hashes[0])
