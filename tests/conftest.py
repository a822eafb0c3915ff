"""What all tests share: a home of their own, one thread, and the photos where they are at hand."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from browser import chromium, visit  # noqa: F401  # fixtures for all tests

os.environ.setdefault("OMP_NUM_THREADS", "1")  # many small processes at once; spinning threads would slow them down

ROOT = Path(__file__).resolve().parents[1]
SHARED = Path(os.environ.get("FIGLEAF_SHARED", ROOT.parent / "shared"))


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """FIGLEAF_HOME of the test."""
    folder = tmp_path / "home"
    monkeypatch.setenv("FIGLEAF_HOME", str(folder))
    return folder


@pytest.fixture(autouse=True)
def signal_handlers() -> Iterator[None]:
    """A test that calls a job's own code in this process leaves no handler to the tests after it."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    yield
    for number, handler in before.items():
        if signal.getsignal(number) is not handler:
            signal.signal(number, handler)


@pytest.fixture
def shared() -> Path:
    """The folder with the photos and weights that the project does not ship."""
    if not (SHARED / "data").is_dir():
        pytest.skip(f"needs the photos of {SHARED}; set FIGLEAF_SHARED")
    return SHARED
