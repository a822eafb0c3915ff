"""Shards scored by a Ray cluster: whatever machine or driver dies, the rows are those of one machine, each once."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from PIL import Image

from figleaf.cli import main
from figleaf.data.decode import RESIZE_RULE
from figleaf.data.manifest import Manifest
from figleaf.data.sharding import write_shards
from figleaf.errors import FigleafError
from figleaf.export.onnx_file import write_onnx
from figleaf.serve.parts import Parts, units_of
from figleaf.serve.ray_predict import _items
from small_vgg import network

SHARDS, IN_SHARD = 10, 24
NODE = {"num_cpus": 1, "object_store_memory": 100 << 20}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "model.onnx"
    facts = {"classes": ["safe", "nsfw"], "unsafe": ["nsfw"], "threshold": 0.5, "resize_rule": RESIZE_RULE}
    return write_onnx(network(), path, facts)


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures of noise, some of which cannot be read or decoded."""
    folder = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(0)
    names = [f"{number:04d}.png" for number in range(SHARDS * IN_SHARD)]
    for number, name in enumerate(names):
        if number % 50 == 7:
            (folder / name).write_bytes(b"no picture")
        elif number % 50 != 8:
            Image.fromarray(rng.integers(0, 256, (90, 90, 3), dtype=np.uint8)).save(folder / name)
    manifest = Manifest.from_table(
        pd.DataFrame({"path": names, "label": "nsfw", "split": "test"}), root=folder, name="noise"
    )
    write_shards(manifest, folder / "shards", samples_max=IN_SHARD)
    return folder / "shards"


@pytest.fixture(scope="module")
def expected(model: Path, shards: Path, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """The rows of one machine."""
    out = tmp_path_factory.mktemp("one") / "scores.parquet"
    assert main(["predict", str(shards), "--model", str(model), "--out", str(out)]) == 0
    return rows_of(out)


def rows_of(out: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = pq.read_table(out).sort_by("path").to_pylist()
    return rows


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A head that scores nothing, and two worker nodes; every process of it is gone at the end."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_AUTH_MODE", "token")
        patch.setenv("RAY_AUTH_TOKEN", "of-this-test")
        pytest.importorskip("ray")
        from ray.cluster_utils import Cluster

        # So that a dead node is noticed within seconds.
        health = {"health_check_initial_delay_ms": 500, "health_check_period_ms": 500}
        head = {**NODE, "num_cpus": 0, "include_dashboard": False, "_system_config": health}
        found = Cluster(initialize_head=True, head_node_args=head)
        try:
            for _ in range(2):
                found.add_node(**NODE)
            yield found
        finally:
            import ray

            ray.shutdown()
            found.shutdown()


def command(model: Path, shards: Path, out: Path, address: str) -> list[str]:
    return ["predict", str(shards), "--model", str(model), "--out", str(out), "--ray", address, "--batch", "8"]


@pytest.mark.slow
def test_a_killed_driver_goes_on_where_it_was(
    cluster: Any,
    model: Path,
    shards: Path,
    expected: list[dict[str, Any]],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "scores.parquet"
    arguments = command(model, shards, out, cluster.address)
    driver = subprocess.Popen([sys.executable, "-m", "figleaf.cli", *arguments], stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while driver.poll() is None and time.monotonic() < deadline:
        if len(list(out.with_name("scores.parquet.parts").glob("part-*.parquet"))) >= 2:
            break
        time.sleep(0.01)
    assert driver.poll() is None, "it ended before it could be killed"
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    assert not out.exists()
    before = {path: path.stat().st_mtime_ns for path in out.with_name("scores.parquet.parts").glob("part-*.parquet")}
    written: list[int] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Parts, "write", _noting(Parts.write, written))
        assert main(arguments) == 0
    assert f"{len(before)} of {SHARDS} shards are scored already" in capsys.readouterr().err
    assert len(written) == SHARDS - len(before)
    assert rows_of(out) == expected


def _noting(write: Any, written: list[int]) -> Any:
    def noted(self: Parts, number: int, content: bytes) -> None:
        write(self, number, content)
        written.append(number)

    return noted


@pytest.mark.slow
def test_a_killed_node_costs_no_row_and_doubles_none(
    cluster: Any,
    model: Path,
    shards: Path,
    expected: list[dict[str, Any]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out = tmp_path / "scores.parquet"
    write, killed = Parts.write, []

    def killing(self: Parts, number: int, content: bytes) -> None:
        """After the second part the node of the first worker is killed; it has a shard in hand and one in waiting."""
        write(self, number, content)
        killed.append(number)
        if len(killed) == 2:
            cluster.remove_node(_node_of_a_worker(cluster), allow_graceful=False)

    monkeypatch.setattr(Parts, "write", killing)
    monkeypatch.chdir(shards.parent)  # the workers' own folder is another
    assert main(command(model, Path(shards.name), out, cluster.address)) == 0
    assert sorted(killed) == list(range(SHARDS))
    rows = [{**row, "path": f"{shards.parent}/{row['path']}"} for row in rows_of(out)]
    assert [row["path"] for row in rows] == [row["path"] for row in expected]
    assert rows == expected
    assert sum(row["error"] is not None for row in rows) == 2 * -(-SHARDS * IN_SHARD // 50)
    assert not out.with_name("scores.parquet.parts").exists()


def _node_of_a_worker(cluster: Any) -> Any:
    from ray._private.state import actors

    busy = {actor["Address"]["NodeID"] for actor in actors().values() if actor["State"] == "ALIVE"}
    return next(node for node in cluster.worker_nodes if node.node_id in busy)


def test_a_machine_that_does_not_see_the_shards_is_named(shards: Path) -> None:
    (unit, *_) = units_of([str(shards)])
    assert next(_items(unit)).name == f"{unit.path}::0000.png"
    elsewhere = replace(unit, path="mine", absolute="/nowhere/shard-00000.tar")
    with pytest.raises(FigleafError, match=f"/nowhere/shard-00000.tar: not there on {socket.gethostname()}"):
        next(_items(elsewhere))
    with pytest.raises(FigleafError, match="or another file"):
        next(_items(replace(unit, n_bytes=unit.n_bytes - 1)))
    gone = replace(elsewhere, n_bytes=0)  # where the driver saw none either, that is the row
    assert [item.name for item in _items(gone)] == ["mine"]


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (["--ray", "auto"], "--ray: rows come in the order in which shards are done; name a file"),
        (["--ray", "auto", "--out", "a.csv"], "--ray writes Parquet"),
        (["--ray", "ray://head:10001", "--out", "a.parquet"], "does not work through Ray's client"),
        (["--ray", "SHARDS", "--out", "a.parquet"], "expected HOST:PORT, auto or local"),
        (["--ray", "somewhere", "--out", "a.parquet"], "expected HOST:PORT, auto or local"),
        (["--ray", "127.0.0.1:9", "--out", "a.parquet"], "no cluster answers there"),
        (["MODEL", "--ray", "local", "--out", "a.parquet"], "--ray scores shards and archives"),
    ],
)
def test_mistakes_are_named(
    model: Path,
    shards: Path,
    more: list[str],
    told: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    pytest.importorskip("ray")
    monkeypatch.chdir(tmp_path)
    named = {"SHARDS": str(shards), "MODEL": str(model)}
    assert main(["predict", str(shards), *(named.get(text, text) for text in more), "--model", str(model)]) == 2
    assert told in capsys.readouterr().err
    assert not list(tmp_path.glob("*.parquet"))


def test_ray_without_an_address_of_its_own_asks_the_environment(
    model: Path, shards: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "ray://head:10001")
    assert main(["predict", str(shards), "--model", str(model), "--ray", "auto", "--out", "a.parquet"]) == 2
    assert "--ray ray://head:10001: Ray Data does not work through Ray's client" in capsys.readouterr().err


def test_usage_statistics_are_off_before_ray_is_imported() -> None:
    code = "import figleaf, os; print(os.environ['RAY_USAGE_STATS_ENABLED'])"
    clean = {key: value for key, value in os.environ.items() if not key.startswith("RAY_")}
    done = subprocess.run([sys.executable, "-c", code], env=clean, capture_output=True, text=True, check=True)
    assert done.stdout == "0\n"
