"""Every place where a model, a fitted state, data or an archive is read: a pickle planted there is not run, but named.

`PLACES` plants and reads; `MODULES` says of each module that reads files which places are its own, or which other test
holds it, or why nobody else's file gets there. Tricks of archives and manifests that are not held elsewhere follow.
"""

import ast
import base64
import hashlib
import io
import json
import marshal
import os
import pickle
import re
import shutil
import struct
import tarfile
import tracemalloc
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import onnx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import safetensors.numpy
import torch
from PIL import Image
from safetensors import safe_open

from figleaf.architecture import header
from figleaf.cli import main
from figleaf.commands.scorers import open_scorer
from figleaf.config import TrackingConfig
from figleaf.data.cache import decode_cached
from figleaf.data.decode import DecodeError
from figleaf.data.manifest import load_manifest
from figleaf.data.shard import read_index as read_shards
from figleaf.errors import FigleafError
from figleaf.evaluate.policy import Policy
from figleaf.evaluate.predictions import Predictions
from figleaf.export.bundle import export_bundle
from figleaf.export.facts import ModelFacts
from figleaf.export.hashes import SUMS, file_states
from figleaf.export.keras_file import KerasScorer, write_keras
from figleaf.export.openvino_file import OpenVinoScorer
from figleaf.export.tfjs_scorer import TfjsScorer
from figleaf.files import sha256_file
from figleaf.serve import items
from figleaf.serve.items import items_of
from figleaf.serve.rows import RowFile
from figleaf.skin.retrieval import FEATURES
from figleaf.skin.retrieval import build as build_index
from figleaf.skin.retrieval_files import load_index, save_index
from figleaf.skin.storage import METADATA_KEY, load_system, save_system
from figleaf.skin.systems import build
from figleaf.study.cluster.ledger import Ledger
from figleaf.study.plain_yaml import read_yaml
from figleaf.study.records import Record, load_records
from figleaf.tracking.archive import Archive
from figleaf.tracking.delivery import Outbox
from figleaf.tracking.journal import MetricJournal
from figleaf.tracking.record import RunRecord
from figleaf.tracking.store import open_store
from figleaf.train.callbacks import AtomicCheckpoints
from figleaf.train.folder import RunFolder
from figleaf.train.teacher import Lessons
from figleaf.vgg.weights import initialise, save
from figleaf.vgg.weights import load as load_network
from small_vgg import network, pictures

ROOT = Path(__file__).parents[1]
CLASSES, UNSAFE = ("covered", "exposed"), ("exposed",)
FACTS = ModelFacts("made", "f" * 32, CLASSES, UNSAFE, "made up", "d" * 64, threshold=0.5)


class Planted:
    """Makes the folder `ran` when it is unpickled."""

    def __init__(self, ran: Path) -> None:
        self.ran = ran

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.ran),)


def as_pickle(ran: Path) -> bytes:
    return pickle.dumps(Planted(ran))


def as_torch(ran: Path) -> bytes:
    stream = io.BytesIO()
    torch.save({"state_dict": Planted(ran), "format_version": 1}, stream)
    return stream.getvalue()


def as_objects(ran: Path) -> bytes:
    """A .npy file of objects, which numpy would unpickle."""
    stream = io.BytesIO()
    np.save(stream, np.array([Planted(ran)], dtype=object), allow_pickle=True)
    return stream.getvalue()


def as_archive_of_objects(ran: Path) -> bytes:
    stream = io.BytesIO()
    np.savez(stream, block1_conv1=np.array([Planted(ran)], dtype=object))
    return stream.getvalue()


EVIL = {"pickle": as_pickle, "torch": as_torch, "npy": as_objects, "npz": as_archive_of_objects}


@dataclass(frozen=True)
class Place:
    """`file` is what the evil stands in, below the test's folder; `read` is given the folder and reads it.

    `prepare` makes what else has to be there, and `seal` makes hashes that a stranger can make, too.
    """

    file: str
    read: Callable[[Path], object]
    prepare: Callable[[Path], object] = lambda folder: None
    seal: Callable[[Path], object] = lambda folder: None


def scored(name: str) -> Callable[[Path], object]:
    return lambda folder: open_scorer(str(folder / name), TrackingConfig())


def weights(name: str) -> Place:
    return Place(name, lambda folder: initialise(network(), str(folder / name)))


def exported(folder: Path) -> None:
    shutil.copytree(EXPORTED["folder"], folder / "out")


def index(folder: Path) -> None:
    for number, picture in enumerate(pictures(4)):
        Image.fromarray(picture).save(folder / f"{number}.png")
    rows = "".join(f"{number}.png,{'nsfw' if number % 2 else 'sfw'},train\n" for number in range(4))
    (folder / "m.csv").write_text("path,label,split\n" + rows)
    manifest = load_manifest(folder / "m.csv")
    decoded = decode_cached(manifest, FEATURES["histogram"]().size, folder=folder / "cache")
    save_index(build_index(manifest, decoded, "histogram", {}, data_hash="d" * 64), folder / "index")


def index_sealed(folder: Path) -> None:
    note = folder / "index" / "index.json"
    said = json.loads(note.read_text())
    said.pop("sha256")
    for name in said["files"]:
        path = folder / "index" / name
        said["files"][name] = {"sha256": sha256_file(path), "bytes": path.stat().st_size}
    digest = hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()
    note.write_text(json.dumps({**said, "sha256": digest}))


def searched(folder: Path) -> object:
    found = load_index(folder / "index")
    return found.load_graph()


def record(folder: Path) -> None:
    (folder / "results" / "records").mkdir(parents=True)
    place = folder / "results" / "records" / "a-1"
    for name in (place.with_suffix(".parquet"), folder / "results" / f"samples-{'d' * 12}.parquet"):
        name.write_bytes(b"to be replaced")
    record_sealed(folder)


def record_sealed(folder: Path, data_hash: str = "d" * 64) -> None:
    place = folder / "results" / "records" / "a-1"
    content = {"format_version": 1, "run_id": "f", "tags": {"figleaf.data_hash": data_hash}, "config": {}}
    content |= {"hardware": {}, "metrics": {}, "curves": {}}
    content["logits_sha256"] = sha256_file(place.with_suffix(".parquet"))
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    place.with_suffix(".json").write_text(json.dumps({**content, "sha256": digest}))


def recorded(folder: Path) -> object:
    return Record.load(folder / "results" / "records" / "a-1.json").predictions


def archive(folder: Path) -> None:
    (folder / "moved" / "runs" / ("a" * 32)).mkdir(parents=True)
    (folder / "moved" / "archive.json").write_text("{}")


def archive_sealed(folder: Path) -> None:
    table = folder / "moved" / "runs" / ("a" * 32) / "run.jsonl"
    told = {"format_version": 1, "runs": {"a" * 32: sha256_file(table)}}
    (folder / "moved" / "archive.json").write_text(json.dumps(told))


def journal_marked(folder: Path) -> None:
    """As far as the marks say, all of it was written by us."""
    content = folder / "journal.jsonl"
    content.write_bytes(content.read_bytes() + b"\n")
    (folder / "journal.jsonl.committed").write_text(str(content.stat().st_size))


def system_with(folder: Path) -> None:
    """A fitted skin system, whose part that skops reads is the evil."""
    rng = np.random.default_rng(0)
    seen = np.where(rng.random((24, 40, 40, 1)) < 0.5, (230, 170, 140), (60, 90, 200)).astype(np.uint8)
    labels = np.arange(24) % 2
    system = build("jones_rehg_features", {}, random_state=0).fit(seen, labels, seen[..., 0] > 100)
    save_system(system, folder / "s.safetensors", {"classes": CLASSES, "unsafe": UNSAFE, "input_size": 16})


def skops_replaced(folder: Path) -> None:
    with safe_open(folder / "s.safetensors", framework="numpy") as file:
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        metadata = file.metadata()
    (place,) = (key for key in tensors if key.endswith("classifier_"))
    tensors[place] = np.frombuffer((folder / "evil").read_bytes(), np.uint8)
    safetensors.numpy.save_file(tensors, folder / "s.safetensors", metadata=metadata)


PLACES = {
    # weights to start from
    **{f"start {name}": weights(f"w{name}") for name in (".pth", ".pt", ".ckpt", ".safetensors", ".npz", ".h5")},
    "start .hdf5": weights("w.hdf5"),
    "start .keras": weights("w.keras"),
    # models to score with
    "network": Place("n.safetensors", lambda folder: load_network(folder / "n.safetensors")),
    "scorer .safetensors": Place("n.safetensors", scored("n.safetensors")),
    "scorer .onnx": Place("n.onnx", scored("n.onnx")),
    "scorer .pt2": Place("n.pt2", scored("n.pt2")),
    "scorer .keras": Place("n.keras", lambda folder: KerasScorer(folder / "n.keras")),
    "scorer openvino xml": Place("out/openvino/model.xml", lambda f: OpenVinoScorer(f / "out/openvino"), exported),
    "scorer openvino bin": Place("out/openvino/model.bin", lambda f: OpenVinoScorer(f / "out/openvino"), exported),
    "scorer tfjs json": Place("out/tfjs/model.json", lambda f: TfjsScorer(f / "out/tfjs"), exported),
    "scorer tfjs shard": Place("out/tfjs/group1-shard1of1.bin", lambda f: TfjsScorer(f / "out/tfjs"), exported),
    "hash list": Place(f"out/{SUMS}", lambda folder: file_states(folder / "out"), exported),
    # fitted state
    "skin system": Place("s.safetensors", lambda folder: load_system(folder / "s.safetensors")),
    "part of a skin system": Place(
        "evil", lambda folder: load_system(folder / "s.safetensors"), system_with, skops_replaced
    ),
    "checkpoint": Place("last.ckpt", lambda folder: AtomicCheckpoints().load_checkpoint(folder / "last.ckpt")),
    **{
        f"index {name}": Place(f"index/{name}", searched, index, index_sealed)
        for name in ("codes.safetensors", "code.safetensors", "table.parquet", "graph.faiss")
    },
    "index note": Place("index/index.json", searched, index),
    "policy": Place("policy.json", lambda folder: Policy.load(folder / "policy.json")),
    # data
    "manifest .parquet": Place("m.parquet", lambda folder: load_manifest(folder / "m.parquet")),
    "manifest .csv": Place("m.csv", lambda folder: load_manifest(folder / "m.csv")),
    "manifest's sidecar": Place(
        "m.csv.json",
        lambda folder: load_manifest(folder / "m.csv"),
        lambda folder: (folder / "m.csv").write_text("path,label,split\na.png,sfw,train\n"),
    ),
    "predictions": Place("p.parquet", lambda folder: Predictions.load(folder / "p.parquet")),
    # runs and studies
    "record": Place("results/records/a-1.json", lambda folder: load_records(folder / "results"), record),
    "record's logits": Place("results/records/a-1.parquet", recorded, record, record_sealed),
    "record's samples": Place(f"results/samples-{'d' * 12}.parquet", recorded, record, record_sealed),
    "study": Place("study.yaml", lambda folder: read_yaml(folder / "study.yaml")),
    "archive": Place("moved/archive.json", lambda folder: Archive(folder / "moved"), archive),
    "archived run": Place(
        f"moved/runs/{'a' * 32}/run.jsonl", lambda folder: Archive(folder / "moved"), archive, archive_sealed
    ),
    "run record": Place("run.json", RunRecord.load),
    "run result": Place("result.json", lambda folder: RunFolder(folder, None).result),
    "outbox": Place("outbox.json", Outbox),
    "journal": Place(
        "journal.jsonl", lambda folder: MetricJournal(folder / "journal.jsonl").rows(), seal=journal_marked
    ),
    "journal's marks": Place(
        "journal.jsonl.committed",
        lambda folder: MetricJournal(folder / "journal.jsonl"),
        lambda folder: (folder / "journal.jsonl").write_text(""),
    ),
    "job's news": Place("news/t.json", lambda folder: Ledger(folder).news("t"), lambda f: (f / "news").mkdir()),
    "search": Place("s.log", lambda folder: searches(folder / "s.log")),
    "shards' index": Place("shards.json", read_shards),
    "architecture": Place("w.safetensors", lambda folder: header(folder / "w.safetensors")),
    "teacher's logits": Place("logits.npy", Lessons.load),
    "teacher's features": Place(
        "features.npy", Lessons.load, lambda folder: np.save(folder / "logits.npy", np.zeros((1, 2, 2), np.float32))
    ),
    "rows of predict": Place("scores.csv.part", lambda folder: rows_file(folder), lambda folder: rows_begun(folder)),
}

JSON_OF_OURS = "plain JSON that figleaf itself wrote for itself in this process or folder; no code can stand in it"
# Every module that reads files of a kind that can hold more than text, or that somebody else may have made.
MODULES = {
    "architecture.py": ("architecture",),
    "commands/check_gpu.py": JSON_OF_OURS,
    "commands/explain_run.py": JSON_OF_OURS,
    "commands/predict.py": JSON_OF_OURS,
    "commands/run_facts.py": "tests/test_hostile_files.py::test_a_runs_configuration_that_is_none_is_named",
    "commands/train.py": JSON_OF_OURS,
    "data/cache.py": "tests/test_hostile_files.py::test_a_planted_cache_entry_is_made_anew",
    "data/manifest.py": ("manifest .parquet", "manifest .csv", "manifest's sidecar"),
    "data/shard.py": ("shards' index",),
    "data/sharding.py": "tests/data/test_shards.py::test_a_folder_that_is_not_ours_is_left_alone",
    "evaluate/policy.py": ("policy",),
    "evaluate/predictions.py": ("predictions",),
    "explain/visualisation.py": JSON_OF_OURS,
    "export/keras_file.py": ("scorer .keras",),
    "export/onnx_lossy.py": "reads the file that it wrote a moment before, in its own temporary folder",
    "export/onnx_scorer.py": ("scorer .onnx",),
    "export/openvino_file.py": ("scorer openvino xml", "scorer openvino bin"),
    "export/program_file.py": "tests/export/test_formats.py::test_no_pickle_is_in_a_program_and_none_is_scored_with",
    "export/tfjs_scorer.py": ("scorer tfjs json", "scorer tfjs shard"),
    "export/verify.py": "tests/test_hostile_files.py::test_verify_opens_nothing_that_runs",
    "serve/http/payloads.py": "tests/serve/test_http_routes.py::test_a_broken_payload_is_refused_with_its_reason",
    "serve/items.py": "tests/test_hostile_files.py::test_members_of_archives_are_only_read",
    "serve/page.py": JSON_OF_OURS,
    "serve/parts.py": "tests/serve/test_tables.py::test_a_parquet_file_that_was_changed_is_refused_and_stays",
    "serve/rows.py": ("rows of predict",),
    "serve/tables.py": "tests/serve/test_tables.py::test_a_parquet_file_that_was_changed_is_refused_and_stays",
    "skin/neighbours.py": ("index graph.faiss",),
    "skin/published_mixture.py": "reads a table that the package brings",
    "skin/retrieval_files.py": ("index codes.safetensors", "index code.safetensors", "index table.parquet"),
    "skin/storage.py": ("skin system", "part of a skin system"),
    "skin/vgg_code.py": ("index code.safetensors",),
    "study/cluster/ledger.py": ("job's news",),
    "study/launch.py": JSON_OF_OURS,
    "study/plain_yaml.py": ("study",),
    "study/records.py": ("record", "record's logits", "record's samples"),
    "study/search/driver.py": JSON_OF_OURS,
    "study/search/storage.py": ("search",),
    "tracking/archive.py": ("archive", "archived run"),
    "tracking/delivery.py": ("outbox",),
    "tracking/heartbeat.py": JSON_OF_OURS,
    "tracking/journal.py": ("journal", "journal's marks"),
    "tracking/record.py": ("run record",),
    "tracking/server.py": JSON_OF_OURS,
    "train/callbacks.py": ("checkpoint",),
    "train/folder.py": ("run result",),
    "train/origin.py": "tests/test_hostile_files.py::test_a_runs_configuration_that_is_none_is_named",
    "train/teacher.py": ("teacher's logits", "teacher's features"),
    "train/worker.py": "tests/test_hostile_files.py::test_a_workers_configuration_that_is_none_is_named",
    "vgg/pretrained.py": tuple(name for name in PLACES if name.startswith("start")),
    "vgg/weights.py": ("network", "scorer .safetensors"),
}
_READS = re.compile(
    r"torch\.load|np\.load|safe_open|load_file|load_model\(|read_model|InferenceSession|read_index|skops\.io\.load"
    r"|h5py\.File|torch\.export\.load|onnx\.load|pq\.(?:read_table|ParquetFile)|read_parquet|ZipFile\(|tarfile\.open"
    r"|SafeLoader|json\.loads?\(|OmegaConf\.load|pickle\.load|joblib\.load|np\.fromfile|cloudpickle"
)
EXPORTED: dict[str, Path] = {}


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


def searches(file: Path) -> None:
    from figleaf.study.search.storage import open_storage

    with open_storage(str(file)):
        pass


def rows_begun(folder: Path) -> None:
    with RowFile(folder / "scores.csv", CLASSES, {"model": "m"}, actions=False):
        pass


def rows_file(folder: Path) -> None:
    (part,) = folder.glob("scores.csv.part")
    part.write_bytes(part.read_bytes() + b"\n")
    with RowFile(folder / "scores.csv", CLASSES, {"model": "m"}, actions=False):
        pass


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


# What a file may say of other files, and of code.


def onnx_with_data_at(location: str) -> bytes:
    model = onnx.load(EXPORTED["folder"] / "model.onnx")
    tensor = max(model.graph.initializer, key=lambda one: len(one.raw_data))
    length = len(tensor.raw_data)
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    for key, value in {"location": location, "length": str(length)}.items():
        entry = tensor.external_data.add()
        entry.key, entry.value = key, value
    return bytes(model.SerializeToString())


@pytest.mark.parametrize("kind", ["absolute", "above", "link"])
def test_an_onnx_file_cannot_take_its_weights_from_elsewhere(kind: str, tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"\0" * 10_000_000)
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "link").symlink_to(tmp_path / "secret")
    location = {"absolute": str(tmp_path / "secret"), "above": "../secret", "link": "link"}[kind]
    model = tmp_path / "in" / "model.onnx"
    model.write_bytes(onnx_with_data_at(location))
    with pytest.raises(FigleafError, match=r"in/model\.onnx: onnxruntime cannot load it"):
        open_scorer(str(model), TrackingConfig())


@pytest.mark.parametrize("kind", ["external link", "soft link", "external values", "virtual"])
def test_an_hdf5_file_cannot_take_its_weights_from_elsewhere(kind: str, tmp_path: Path) -> None:
    other, shape = tmp_path / "other.h5", (3, 3, 3, 8)
    with h5py.File(other, "w") as file:
        file["w"] = np.zeros(shape, np.float32)
    with h5py.File(tmp_path / "w.h5", "w") as file:
        file.attrs["layer_names"] = ["block1_conv1"]
        group = file.create_group("block1_conv1")
        group.attrs["weight_names"] = ["w"]
        if kind == "external link":
            group["w"] = h5py.ExternalLink(str(other), "/w")
        elif kind == "soft link":
            group["w"] = h5py.SoftLink("/elsewhere")
        elif kind == "external values":
            group.create_dataset("w", shape, "f4", external=[(str(other), 0, 864)])
        else:
            layout = h5py.VirtualLayout(shape, "f4")
            layout[:] = h5py.VirtualSource(str(other), "w", shape)
            group.create_virtual_dataset("w", layout)
    with pytest.raises(FigleafError, match=r"w\.h5: not a readable Keras \.h5 file .*(link|another file)"):
        initialise(network(), str(tmp_path / "w.h5"))


@pytest.mark.parametrize("kind", ["lambda", "module", "objects"])
def test_a_keras_file_cannot_bring_code(kind: str, tmp_path: Path) -> None:
    """A Lambda layer with marshalled code, a class of another module, and weights that numpy would unpickle."""
    net = network(depth=11)
    honest = write_keras(net, tmp_path / "honest.keras", FACTS.record(net))
    ran, evil = tmp_path / "ran", tmp_path / "evil.keras"
    code = marshal.dumps(compile(f"__import__('os').mkdir({str(ran)!r})", "x", "eval"))
    function = {"class_name": "__lambda__", "config": [base64.b64encode(code).decode(), None, None]}
    layers: dict[str, dict[str, Any]] = {
        "lambda": {"module": "keras.layers", "class_name": "Lambda", "config": {"name": "l", "function": function}},
        "module": {"module": "os", "class_name": "mkdir", "config": {"path": str(ran)}},
    }
    with zipfile.ZipFile(honest) as source, zipfile.ZipFile(evil, "w") as target:
        for name in source.namelist():
            content = source.read(name)
            if name == "config.json" and kind in layers:
                config = json.loads(content)
                config["config"]["layers"].insert(1, layers[kind])
                content = json.dumps(config).encode()
            if name == "model.weights.h5" and kind == "objects":
                target.writestr("model.weights.npz", as_archive_of_objects(ran))
                continue
            target.writestr(name, content)
    for read in (KerasScorer, lambda path: initialise(network(), str(path))):
        with pytest.raises(FigleafError, match=r"evil\.keras"):
            read(evil)
    assert not ran.exists()


def test_parquet_files_cannot_name_a_type_that_is_unpickled(tmp_path: Path) -> None:
    """pyarrow before 14.0.1 unpickled a column's Python type on reading."""
    ran = tmp_path / "ran"
    told = {b"ARROW:extension:name": b"arrow.py_extension_type", b"ARROW:extension:metadata": as_pickle(ran)}
    schema = pa.schema([pa.field("path", pa.string(), metadata=told)])
    pq.write_table(pa.table({"path": ["a.png"]}, schema=schema), tmp_path / "m.parquet")
    for read in (load_manifest, Predictions.load):
        with pytest.raises(FigleafError):
            read(tmp_path / "m.parquet")
    assert not ran.exists()


@pytest.mark.parametrize(
    "change",
    [
        {"hyperparameters": {"depth": 10**9}},
        {"hyperparameters": {"depth": 16, "evil": 1}},
        {"hyperparameters": []},
        {"hyperparameters": {"depth": 11, "width": "x"}},
        {"format_version": "1"},
        {"format_version": None},
        {"metadata": 3},
        {"metadata": []},
    ],
    ids=str,
)
def test_a_header_that_makes_no_network_is_named(change: dict[str, Any], tmp_path: Path) -> None:
    path = save(network(depth=11), tmp_path / "n.safetensors", {"classes": CLASSES, "unsafe": UNSAFE})
    content = path.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + length])
    header["__metadata__"]["figleaf"] = json.dumps({**json.loads(header["__metadata__"]["figleaf"]), **change})
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + content[8 + length :])
    with pytest.raises(FigleafError, match=r"n\.safetensors"):
        open_scorer(str(path), TrackingConfig())


@pytest.mark.parametrize("name", ["predict_proba", "__class__", "_private_"])
def test_a_skin_system_cannot_have_its_methods_replaced(name: str, tmp_path: Path) -> None:
    path = save_system(build("kovac", {}, random_state=0), tmp_path / "s.safetensors", {})
    with safe_open(path, framework="numpy") as file:
        about = json.loads(file.metadata()[METADATA_KEY])
    about["system"]["fitted"] = {name: 1}
    metadata = {METADATA_KEY: json.dumps(about)}
    safetensors.numpy.save_file({"nothing": np.zeros(0, np.uint8)}, path, metadata=metadata)
    with pytest.raises(FigleafError, match=r"s\.safetensors: .*nothing that fitting leaves"):
        load_system(path)


@pytest.mark.parametrize("data_hash", ["../../../x", "/etc/passwd", "..", "a/b"])
def test_a_record_cannot_name_samples_of_elsewhere(data_hash: str, tmp_path: Path) -> None:
    record(tmp_path)
    record_sealed(tmp_path, data_hash)
    with pytest.raises(FigleafError, match="missing"):
        recorded(tmp_path)


def test_yaml_of_a_study_cannot_call_python(tmp_path: Path) -> None:
    (tmp_path / "study.yaml").write_text(f"a: !!python/object/apply:os.mkdir [{tmp_path / 'ran'}]\n")
    with pytest.raises(FigleafError, match=r"study\.yaml: could not determine a constructor"):
        read_yaml(tmp_path / "study.yaml")
    assert not (tmp_path / "ran").exists()


# Archives whose members are scored.


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
    assert [item.name.rpartition("::")[2].lstrip("/") for item in found] == [outside.lstrip("/"), "../climbed.png"]
    assert [item.read() for item in found] == [png, png]
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
