"""What a run reads: a split that lacks one side of the question is told of before the training."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from mlflow.tracking import MlflowClient
from PIL import Image

from figleaf.config import DataConfig, compose
from figleaf.data.cache import DecodedImages
from figleaf.data.manifest import Manifest, save_manifest
from figleaf.errors import FigleafError
from figleaf.train.inputs import Inputs, read_manifest
from figleaf.train.task import train


def inputs(train_labels: str, val_labels: str, unsafe: str = "n", unreadable: tuple[int, ...] = ()) -> Inputs:
    """One picture for each letter, which is its class; the classes are d, n and s."""
    labels = [*train_labels, *val_labels]
    splits = ["train"] * len(train_labels) + ["val"] * len(val_labels)
    table = pd.DataFrame({"path": [f"{i}.png" for i in range(len(labels))], "label": labels, "split": splits})
    manifest = Manifest.from_table(table, root=Path("/data"), name="d", classes=list("dns"), unsafe=list(unsafe))
    errors = tuple("broken" if row in unreadable else None for row in range(len(labels)))
    pictures = DecodedImages(np.zeros((len(labels), 8, 8, 3), np.uint8), ("",) * len(labels), errors)
    return Inputs(manifest, pictures, pictures)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (inputs("nsd", "ns"), []),
        (inputs("ns", "ss"), ["val holds only s (samples: 2) and nothing unsafe: it has no AUROC"]),
        (inputs("ns", "sd"), ["val holds only d, s (samples: 2) and nothing unsafe: it has no AUROC"]),
        (inputs("nn", "ns"), ["train holds only n (samples: 2) and nothing safe: "]),
        (inputs("s", "n"), ["train holds only s (samples: 1) and nothing unsafe: ", "val holds only n"]),
        (inputs("nd", "nd", unsafe="nd"), ["train holds only d, n (samples: 2) and nothing safe: ", "val holds"]),
        (inputs("nd", "nd", unsafe=""), []),
        (inputs("nd", "nn", unsafe=""), ["val holds only n (samples: 2): its accuracy says nothing"]),
        (inputs("ns", "nss", unreadable=(2,)), ["val holds only s (samples: 2)", "1 of 5 pictures cannot be read"]),
        (inputs("nns", "nss", unreadable=(1, 5)), ["2 of 6 pictures cannot be read and are left out"]),
    ],
)
def test_split_without_both_sides_is_told_of(given: Inputs, told: list[str]) -> None:
    found = given.warnings()
    assert len(found) == len(told)
    assert all(line.startswith(start) and "\n" not in line for line, start in zip(found, told, strict=True))


def test_split_that_no_run_reads_is_told_of() -> None:
    given = inputs("nsns", "ns")
    table = given.manifest.table.assign(split=["train", "train", "trian", "trian", "val", "val"])
    (told,) = Inputs(given.manifest.with_table(table), given.pictures, given.larger).warnings()
    assert told.startswith("no run reads the split trian, only train, val, test, calib")


def test_split_that_is_not_there_is_an_error_of_its_own() -> None:
    with pytest.raises(FigleafError, match="there is no split 'val'"):
        inputs("ns", "").warnings()
    with pytest.raises(FigleafError, match=r"'val' holds 1 samples, none of them readable, as /data/2\.png: broken; "):
        inputs("ns", "n", unreadable=(2,)).warnings()


def test_calib_split_that_cannot_be_cut_names_the_key_that_leaves_it_out(tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_text("path,label,split,group\na,nsfw,train,g\nb,sfw,train,g\nc,sfw,val,h\n")
    with pytest.raises(FigleafError, match=r"data\.calib_fraction=0\.1: .* one group; 0 cuts none"):
        read_manifest(DataConfig(manifest=str(tmp_path / "m.csv")), tmp_path)


def test_run_whose_val_holds_one_class_says_so_and_is_tagged(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [("nsfw" if i % 2 else "sfw", "train") for i in range(8)] + [("sfw", "val")] * 4
    for i in range(len(rows)):
        Image.new("RGB", (40, 40), (20 * i, 60, 90)).save(tmp_path / f"{i}.png")
    table = pd.DataFrame([(f"{i}.png", *row) for i, row in enumerate(rows)], columns=["path", "label", "split"])
    save_manifest(Manifest.from_table(table, root=tmp_path, name="one-sided"), tmp_path / "m.csv")
    overrides = ["data=manifest", f"data.manifest={tmp_path}/m.csv", "data.calib_fraction=0", "model=debug"]
    done = train(compose("train", [*overrides, "trainer.epochs=2", "trainer.intervals=0", "trainer.threads=1"]))
    (warning,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("warning: ")]
    assert "select.key" in warning
    assert "data.unsafe=[]" in warning
    run = MlflowClient(f"sqlite:///{home}/mlflow.db").get_run(done.run_id)
    assert run.data.tags["figleaf.warnings"] == warning.removeprefix("warning: ")
    assert "val/auroc" not in done.metrics
    assert "val/accuracy" in done.metrics, "the metric that the warning names"
