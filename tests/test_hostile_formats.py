"""What a file may say of other files, and of code: neither is followed."""

import base64
import json
import marshal
import struct
import zipfile
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import onnx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import safetensors.numpy
from safetensors import safe_open

from figleaf.commands.scorers import open_scorer
from figleaf.config import TrackingConfig
from figleaf.data.manifest import load_manifest
from figleaf.errors import FigleafError
from figleaf.evaluate.predictions import Predictions
from figleaf.export.bundle import export_bundle
from figleaf.export.keras_file import KerasScorer, write_keras
from figleaf.skin.storage import METADATA_KEY, load_system, save_system
from figleaf.skin.systems import build
from figleaf.study.plain_yaml import read_yaml
from figleaf.vgg.weights import initialise, save
from hostile_places import CLASSES, FACTS, UNSAFE, as_archive_of_objects, as_pickle, record, record_sealed, recorded
from small_vgg import network, pictures


def onnx_with_data_at(location: str, folder: Path) -> bytes:
    export_bundle(network(depth=11), out=folder, formats=["onnx"], facts=FACTS, pictures=pictures())
    model = onnx.load(folder / "model.onnx")
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
    model.write_bytes(onnx_with_data_at(location, tmp_path / "out"))
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
