"""Where a model, a fitted state, data or an archive is read, with what is planted there.

`PLACES` plants and reads; `MODULES` says of each module that reads files which places are its own, or which other test
holds it, or why nobody else's file gets there.
"""

import hashlib
import io
import json
import os
import pickle
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy
import torch
from PIL import Image
from safetensors import safe_open

from figleaf.architecture import header
from figleaf.commands.scorers import open_scorer
from figleaf.config import TrackingConfig
from figleaf.data.cache import decode_cached
from figleaf.data.manifest import load_manifest
from figleaf.data.shard import read_index as read_shards
from figleaf.evaluate.policy import Policy
from figleaf.evaluate.predictions import Predictions
from figleaf.export.facts import ModelFacts
from figleaf.export.hashes import SUMS, file_states
from figleaf.export.keras_file import KerasScorer
from figleaf.export.openvino_file import OpenVinoScorer
from figleaf.export.tfjs_scorer import TfjsScorer
from figleaf.files import sha256_file
from figleaf.serve.rows import RowFile
from figleaf.skin.retrieval import FEATURES
from figleaf.skin.retrieval import build as build_index
from figleaf.skin.retrieval_files import load_index, save_index
from figleaf.skin.storage import load_system, save_system
from figleaf.skin.systems import build
from figleaf.study.cluster.ledger import Ledger
from figleaf.study.plain_yaml import read_yaml
from figleaf.study.records import Record, load_records
from figleaf.tracking.archive import Archive
from figleaf.tracking.delivery import Outbox
from figleaf.tracking.journal import MetricJournal
from figleaf.tracking.record import RunRecord
from figleaf.train.callbacks import AtomicCheckpoints
from figleaf.train.folder import RunFolder
from figleaf.train.teacher import Lessons
from figleaf.vgg.weights import initialise
from figleaf.vgg.weights import load as load_network
from small_vgg import network, pictures

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


EXPORTED: dict[str, Path] = {}  # filled by the tests
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
    "serve/items.py": "tests/test_hostile_archives.py::test_members_of_archives_are_only_read",
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
