"""The data card: counts that are the manifest's, what was checked or not, and no name of a file or a person."""

import re
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image

from figleaf.data.check import check
from figleaf.data.manifest import Manifest
from figleaf.data.sizes import picture_sizes
from figleaf.export.data_card import data_card

ROWS = [  # path, label, split, group, slice, licence
    ("anna/1.png", "nsfw", "train", "anna", "beach", "CC BY 4.0"),
    ("anna/2.png", "sfw", "train", "anna", "studio", "CC BY 4.0"),
    ("bob/1.png", "sfw", "train", "bob", "studio", ""),
    ("carla/1.png", "nsfw", "test", "carla", "beach", "own | made"),
    ("carla/2.png", "sfw", "test", "bob", "beach", "CC0"),
]


@pytest.fixture
def manifest(tmp_path: Path) -> Manifest:
    table = pd.DataFrame(ROWS, columns=["path", "label", "split", "group", "slice", "licence"])
    for number, path in enumerate(table["path"]):
        (tmp_path / path).parent.mkdir(exist_ok=True)
        Image.effect_noise((20 + 10 * number, 40), 60 + number).save(tmp_path / path)
    (tmp_path / "carla" / "2.png").write_bytes(b"no picture")
    return Manifest.from_table(table, root=tmp_path, name="my *photos*", unsafe=["nsfw"])


def test_the_card_counts_what_the_manifest_holds(manifest: Manifest) -> None:
    text = data_card(manifest, picture_sizes(manifest))
    for part in (
        "5 pictures in 3 groups, the largest of 2",
        "| train | 3 | 2 | 0.333 | 1 | 2 |",
        "| test | 2 | 2 | 0.500 | 1 | 1 |",
        "| beach | 3 | 3 | 0.667 |",
        "| studio | 2 | 2 | 0.000 |",
        f"Hash of the manifest: {manifest.hash}",
        "CC BY 4.0 (2)",
        "not stated (1)",
        "Of 1 file the size cannot be read",
        "| shorter side, px | 20 |",
        "| longer side, px | 40 | 40 | 40 |",
        "Nothing: `figleaf data check`",
        "Not for:",
    ):
        assert part in text, part
    assert not re.search("anna|bob|carla", text)


def test_names_from_data_stay_names(manifest: Manifest) -> None:
    text = data_card(manifest, [None] * 5)
    assert r"# Data card: my \*photos\*" in text
    assert r"own \| made (1)" in text


def test_what_a_check_found_is_told(manifest: Manifest) -> None:
    text = data_card(manifest, [], check(manifest), licence="ours")
    assert "| files that cannot be used | 1 |" in text
    assert "| groups in several splits | 1 |" in text
    assert "Licence of the pictures: ours." in text


def test_proxies_say_that_they_are(manifest: Manifest) -> None:
    assert "NSFW accuracy" not in data_card(manifest, [])
    proxy = Manifest.from_table(manifest.table, root=manifest.root, name="skin-area proxy", unsafe=["nsfw"])
    assert "**These data, skin-area proxy, stand in for the subject." in data_card(proxy, [])


def test_a_check_that_was_not_is_no_clean_one(manifest: Manifest) -> None:
    assert "| files that cannot be used" not in data_card(manifest, [])
