"""Every place where a model, a fitted state, data or an archive is read: a pickle planted there is not run, but named.

Tricks of single formats are in `test_hostile_formats.py`, those of archives in `test_hostile_archives.py`.
"""

import ast
import io
import os
import pickle
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from figleaf.cli import main
from figleaf.data.cache import decode_cached
from figleaf.data.manifest import load_manifest
from figleaf.errors import FigleafError
from figleaf.export.bundle import export_bundle
from figleaf.export.hashes import SUMS, file_states
from figleaf.files import sha256_file
from figleaf.tracking.store import open_store
from figleaf.vgg.weights import save
from hostile_places import EVIL, EXPORTED, FACTS, MODULES, PLACES, Place, as_pickle, exported, index, system_with
from small_vgg import network, pictures

ROOT = Path(__file__).parents[1]
_READS = re.compile(
    r"torch\.load|np\.load|safe_open|load_file|load_model\(|read_model|InferenceSession|read_index|skops\.io\.load"
    r"|h5py\.File|torch\.export\.load|onnx\.load|pq\.(?:read_table|ParquetFile)|read_parquet|ZipFile\(|tarfile\.open"
    r"|SafeLoader|json\.loads?\(|OmegaConf\.load|pickle\.load|joblib\.load|np\.fromfile|cloudpickle"
)


@pytest.fixture(scope="module", autouse=True)
def _exported(tmp_path_factory: pytest.TempPathFactory) -> None:
    EXPORTED["folder"] = tmp_path_factory.mktemp("export") / "out"
    export_bundle(
        network(depth=11),
        out=EXPORTED["folder"],
        formats=["onnx", "tfjs", "openvino", "safetensors"],
        facts=FACTS,
        pictures=pictures(),
    )


def test_every_module_that_reads_files_stands_in_the_table() -> None:
    package = ROOT / "src" / "figleaf"
    reading = {
        file.relative_to(package).as_posix()
        for file in package.rglob("*.py")
        if _READS.search("\n".join(line.partition("  # ")[0] for line in file.read_text().splitlines()))
    }
    assert reading == set(MODULES)
    held = {name for said in MODULES.values() if isinstance(said, tuple) for name in said}
    assert held <= set(PLACES)
    for said in MODULES.values():
        if isinstance(said, str) and "::" in said:
            file, _, test = said.partition("::")
            functions = {node.name for node in ast.parse((ROOT / file).read_text()).body if hasattr(node, "name")}
            assert test in functions, said


def test_what_is_planted_runs_where_it_is_unpickled(tmp_path: Path) -> None:
    """Or else the tests below would prove nothing."""
    for number, (kind, made) in enumerate(EVIL.items()):
        ran = tmp_path / f"ran{number}"
        stream = io.BytesIO(made(ran))
        if kind == "pickle":
            pickle.load(stream)
        elif kind == "torch":
            torch.load(stream, weights_only=False)
        else:
            loaded = np.load(stream, allow_pickle=True)
            if kind == "npz":
                loaded["block1_conv1"]
        assert ran.is_dir(), kind


def prepared(place: Place, parent: Path) -> Path:
    """What `place` needs, made once for all tests of this process."""
    shared = place.prepare in (index, exported, system_with)
    folder = parent / f"prepared-{'' if shared else place.file.replace('/', '-')}-{place.prepare.__name__}"
    if not folder.exists():
        folder.mkdir()
        place.prepare(folder)
    return folder


@pytest.mark.parametrize("kind", EVIL)
@pytest.mark.parametrize("name", PLACES)
def test_a_planted_pickle_is_not_run_and_its_file_is_named(name: str, kind: str, tmp_path: Path) -> None:
    place, ran = PLACES[name], tmp_path / "ran"
    folder = Path(shutil.copytree(prepared(place, tmp_path.parent), tmp_path / "place"))
    file = folder / place.file
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(EVIL[kind](ran))
    place.seal(folder)
    with pytest.raises(FigleafError) as refused:
        place.read(folder)
    assert not ran.exists()
    # A folder that is read as a whole is named as a whole.
    assert str(file) in str(refused.value) or str(file.parent) in str(refused.value) or place.file == "evil"


@pytest.mark.parametrize("kind", EVIL)
def test_a_planted_cache_entry_is_made_anew(kind: str, tmp_path: Path) -> None:
    Image.fromarray(pictures()[0]).save(tmp_path / "a.png")
    (tmp_path / "m.csv").write_text("path,label,split\na.png,nsfw,train\n")
    manifest = load_manifest(tmp_path / "m.csv")
    whole = decode_cached(manifest, 16, folder=tmp_path / "cache").pixels.copy()
    for pattern in ("*.npy", "*.json"):
        (entry,) = (tmp_path / "cache").glob(pattern)
        entry.write_bytes(EVIL[kind](tmp_path / "ran"))
        assert np.array_equal(decode_cached(manifest, 16, folder=tmp_path / "cache").pixels, whole)
        assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("content", ["3", "[]", "null", '"x"', '{"7": "x"}', '{"a": "x"}', "[" * 100_000])
def test_a_cache_note_that_is_none_is_made_anew(content: str, tmp_path: Path) -> None:
    Image.fromarray(pictures()[0]).save(tmp_path / "a.png")
    (tmp_path / "m.csv").write_text("path,label,split\na.png,nsfw,train\n")
    manifest = load_manifest(tmp_path / "m.csv")
    whole = decode_cached(manifest, 16, folder=tmp_path / "cache")
    (note,) = (tmp_path / "cache").glob("*.json")
    note.write_text(content)
    again = decode_cached(manifest, 16, folder=tmp_path / "cache")
    assert np.array_equal(again.pixels, whole.pixels)
    assert again.errors == whole.errors


def a_run(home: Path, name: str, files: dict[str, bytes]) -> str:
    """A finished run with these artifacts; its id."""
    from figleaf.tracking.run import TrackedRun

    folder = home.parent / name
    with TrackedRun.start(
        open_store(None, home), experiment="figleaf", name=name, folder=folder, params={}, tags={}
    ) as run:
        for file, content in files.items():
            (folder / file).parent.mkdir(parents=True, exist_ok=True)
            (folder / file).write_bytes(content)
            run.log_artifact(folder / file, str(Path(file).parent) if "/" in file else None)
        run.journal.append({"test/auroc": 0.5}, 1)
    return run.run_id


def test_a_runs_configuration_that_is_none_is_named(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    net = network(depth=11)
    weights = save(net, tmp_path / "w.safetensors", FACTS.record(net)).read_bytes()
    for number, content in enumerate([as_pickle(tmp_path / "ran"), b"[" * 100_000]):
        run = a_run(home, f"r{number}", {"config.json": content, "model/best.safetensors": weights})
        for command in (["export", f"run={run}", f"out={tmp_path / 'out'}"], ["explain-run", run]):
            assert main(command) == 2
            shown = capsys.readouterr().err
            assert "config.json: " in shown
            assert f"run r{number}" in shown
    assert not (tmp_path / "ran").exists()


def test_a_workers_configuration_that_is_none_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from figleaf.train import worker

    (tmp_path / "c.json").write_bytes(as_pickle(tmp_path / "ran"))
    assert worker.main([str(tmp_path / "c.json")]) == 2
    assert str(tmp_path / "c.json") in capsys.readouterr().err
    assert not (tmp_path / "ran").exists()


def test_verify_opens_nothing_that_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Evil under its own hash in every file of an exported folder, as by somebody who wrote the list as well."""
    exported(tmp_path)
    folder = tmp_path / "out"
    whole = {name: (folder / name).read_bytes() for name in file_states(folder) if not name.endswith(".md")}
    for evil, code in (("parity.json", 2), ("model.json", 0), (None, 1)):
        for name, content in whole.items():
            planted = name == evil or (evil is None and not name.endswith(("parity.json", "/model.json")))
            (folder / name).write_bytes(as_pickle(tmp_path / "ran") if planted else content)
        hashes = "".join(f"{sha256_file(folder / name)}  {name}\n" for name in whole)
        (folder / SUMS).write_text(hashes)
        assert main(["export", "verify", str(folder)]) == code
        assert "Traceback" not in capsys.readouterr().err
    assert not (tmp_path / "ran").exists()


def test_a_registered_pickle_is_neither_scored_with_nor_loaded_by_mlflow(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As `mlflow.pyfunc.log_model(python_model=object)` writes one; figleaf's environment forbids to load it."""
    import mlflow.pyfunc
    from mlflow.exceptions import MlflowException

    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "python_model.pkl").write_bytes(as_pickle(tmp_path / "ran"))
    (folder / "MLmodel").write_text(
        "flavors:\n  python_function:\n    loader_module: mlflow.pyfunc.model\n    python_model: python_model.pkl\n"
        "    cloudpickle_version: 3.1.2\n    python_version: 3.11.0\n    env: {}\n"
    )
    assert os.environ["MLFLOW_ALLOW_PICKLE_DESERIALIZATION"] == "false"
    with pytest.raises(MlflowException, match="pickle"):
        mlflow.pyfunc.load_model(str(folder))
    client = open_store(None, home).client
    client.create_registered_model("evil", tags={"figleaf.project": "1"})
    for tags in ({}, {"figleaf.file": "../python_model.pkl", "figleaf.sha256": "0" * 64}):
        client.create_model_version("evil", folder.as_uri(), tags=tags)
    Image.fromarray(pictures()[0]).save(tmp_path / "a.png")
    for version in (1, 2):
        assert main(["predict", str(tmp_path / "a.png"), "--model", f"models:/evil/{version}"]) == 2
        assert f"models:/evil/{version}: not registered by `figleaf registry add`" in capsys.readouterr().err
    assert not (tmp_path / "ran").exists()
