"""TensorFlow.js for the page: taken where it lies, fetched once, and only ever the pinned files."""

import json
import shutil
import stat
from pathlib import Path

import pytest

from figleaf.config import web_dir
from figleaf.errors import FigleafError
from figleaf.serve.engine import FILES, engine_files

NPM = "#!/bin/sh\n{}\n"


@pytest.fixture
def web(tmp_path: Path) -> Path:
    """Sources without packages."""
    folder = tmp_path / "web"
    folder.mkdir()
    for name in ("package.json", "package-lock.json"):
        shutil.copy(web_dir() / name, folder)
    return folder


@pytest.fixture
def npm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A program called npm that is the only one found."""
    folder = tmp_path / "bin"
    folder.mkdir()
    program = folder / "npm"
    program.write_text(NPM.format("exit 0"))
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    return program


def test_the_pinned_versions_are_those_of_the_lock_file() -> None:
    packages = json.loads((web_dir() / "package-lock.json").read_text())["packages"]
    for name in ("tfjs", "tfjs-backend-wasm"):
        assert packages[f"node_modules/@tensorflow/{name}"]["version"] == "4.22.0"


def test_packages_beside_the_sources_are_used_and_npm_is_not_asked(
    engine: dict[str, Path], web: Path, npm: Path, tmp_path: Path
) -> None:
    for (place, _), path in zip(FILES.items(), engine.values(), strict=True):
        target = web / "node_modules" / "@tensorflow" / place
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
    found = engine_files(web, tmp_path / "cache")
    assert set(found) == set(engine)
    assert all(path.is_relative_to(web) for path in found.values())
    assert not (tmp_path / "cache").exists()
    found["tf.es2017.min.js"].write_text("alert(1)")
    with pytest.raises(FigleafError, match=r"tf.es2017.min.js: not the file of the pinned version"):
        engine_files(web, tmp_path / "cache")


def test_npm_is_asked_once_for_the_locked_versions_and_only_the_files_are_kept(
    engine: dict[str, Path], web: Path, npm: Path, tmp_path: Path
) -> None:
    cache, asked = tmp_path / "cache", tmp_path / "asked"
    lines = [f'echo "$@" >> {asked}', f"cmp package-lock.json {web / 'package-lock.json'} || exit 1"]
    for place, path in zip(FILES, engine.values(), strict=True):
        target = f"node_modules/@tensorflow/{place}"
        lines.append(f'mkdir -p "$(dirname {target})" && cp "{path}" {target}')
    npm.write_text(NPM.format("\n".join([*lines, "mkdir node_modules/other"])))
    assert set(engine_files(web, cache)) == set(engine_files(web, cache)) == set(engine)
    (line,) = asked.read_text().splitlines()
    assert line.startswith("ci --ignore-scripts")
    kept = {path.relative_to(cache).as_posix() for path in cache.rglob("*") if path.is_file()}
    assert kept == {f"node_modules/@tensorflow/{place}" for place in FILES}


def test_packages_without_the_files_are_named(web: Path, npm: Path, tmp_path: Path) -> None:
    with pytest.raises(FigleafError, match=r"without TensorFlow.js"):
        engine_files(web, tmp_path / "cache")


def test_a_failure_of_npm_is_named(web: Path, npm: Path, tmp_path: Path) -> None:
    npm.write_text(NPM.format("echo 'npm error code ENOTFOUND' >&2; exit 1"))
    with pytest.raises(FigleafError, match=r"npm could not fetch TensorFlow.js \(npm error code ENOTFOUND\)"):
        engine_files(web, tmp_path / "cache")


def test_without_npm_the_way_out_is_said(web: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(FigleafError, match=r"no npm here: install Node.js"):
        engine_files(web, tmp_path / "cache")
