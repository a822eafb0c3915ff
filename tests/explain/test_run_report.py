"""A run on one page: which errors, which counts, and that nothing in it is more than text."""

import numpy as np
import pandas as pd
import pytest

from figleaf.evaluate.predictions import Predictions
from figleaf.explain.report import ErrorGroup, ErrorPicture, confusion, given_classes, report_page, surest_errors

SCORES = [0.1, 0.9, 0.6, 0.2, 0.95, 0.4, 0.55, 0.05]
LABELS = ["safe", "safe", "safe", "safe", "unsafe", "unsafe", "unsafe", "unsafe"]


def predictions(names: tuple[str, ...] = ("safe", "unsafe"), unsafe: tuple[str, ...] = ("unsafe",)) -> Predictions:
    samples = pd.DataFrame(
        {
            "sample_id": [f"{number}.png" for number in range(8)],
            "content_sha256": [f"{number:064x}" for number in range(8)],
            "split": "test",
            "group": [f"g{number}" for number in range(8)],
            "slice": ["<b>a</b>", "b"] * 4,
            "label": LABELS,
        }
    )
    logits = np.stack([np.log1p(-np.array(SCORES)), np.log(SCORES)], axis=1)
    return Predictions.from_logits(
        samples, logits, classes=names, unsafe=unsafe, data_name="skin-area proxy", data_hash="feed"
    )


def page(shown: bool = False, **changes: object) -> str:
    picture = np.full((40, 60, 3), 200, np.uint8)
    one = ErrorPicture("<script>alert(1)</script>.png", "", "safe", 0.9, picture, picture)
    values = {
        "name": "<i>run</i>",
        "run_id": "0123",
        "description": "A VGG16",
        "predictions": predictions(),
        "metrics": [{"key": "auroc", "name": "AUROC", "test": {"value": 0.9, "count": False, "low": 0.8, "high": 1.0}}],
        "threshold": 0.5,
        "history": {"train/loss": [(1, 0.7), (2, 0.4)], "train/lr": []},
        "errors": [ErrorGroup("Safe, and flagged", 7, [one])],
        "facts": [("code", "abc & def")],
        "split": "test",
        "method": "cam",
        "shown": shown,
    }
    return report_page(**{**values, **changes})  # type: ignore[arg-type]


def test_the_surest_errors_come_first() -> None:
    (flagged_title, flagged), (missed_title, missed) = surest_errors(predictions(), 0.5, 10)
    assert (flagged_title, missed_title) == ("Safe, and flagged", "Unsafe, and missed")
    assert flagged["sample_id"].tolist() == ["1.png", "2.png"]
    assert missed["sample_id"].tolist() == ["7.png", "5.png"]


def test_no_more_than_asked_for_and_their_number_is_known() -> None:
    (_, flagged), (_, missed) = surest_errors(predictions(), 0.5, 1)
    assert flagged["sample_id"].tolist() == ["1.png"]
    assert flagged.attrs["total"] == missed.attrs["total"] == 2
    assert all(rows.empty and rows.attrs["total"] == 2 for _, rows in surest_errors(predictions(), 0.5, 0))


def test_the_threshold_decides_what_is_an_error() -> None:
    (_, flagged), (_, missed) = surest_errors(predictions(), 0.97, 10)
    assert flagged.empty
    assert missed["sample_id"].tolist() == ["7.png", "5.png", "6.png", "4.png"]


def test_the_class_that_an_error_was_given_is_of_the_side_that_the_threshold_decided_for() -> None:
    found = predictions()
    (_, (_, missed)), (flagged_as, missed_as) = surest_errors(found, 0.97, 10), given_classes(found)
    assert missed["score"].max() == pytest.approx(0.95), "unsafe is the likeliest class, and safe what it was given"
    assert [[found.classes[index] for index in group] for group in (flagged_as, missed_as)] == [["unsafe"], ["safe"]]
    assert given_classes(predictions(unsafe=())) == [[0, 1]], "of a single group"


def test_without_unsafe_classes_errors_are_other_classes() -> None:
    ((title, rows),) = surest_errors(predictions(unsafe=()), None, 10)
    assert title == "Given another class"
    assert rows["sample_id"].tolist() == ["7.png", "1.png", "2.png", "5.png"]
    assert rows["score"].tolist() == pytest.approx([0.95, 0.9, 0.6, 0.6])


def test_the_confusion_counts_every_scored_sample_once() -> None:
    found = confusion(predictions(), 0.5)
    assert found["columns"] == ["not flagged", "flagged"]
    assert [(row["label"], [cell["count"] for cell in row["cells"]]) for row in found["rows"]] == [
        ("safe", [2, 2]),
        ("unsafe", [2, 2]),
    ]
    assert [[cell["right"] for cell in row["cells"]] for row in found["rows"]] == [[True, False], [False, True]]
    by_class = confusion(predictions(unsafe=()), None)
    assert by_class["columns"] == ["safe", "unsafe"]
    assert sum(row["total"] for row in by_class["rows"]) == 8


def test_the_page_holds_its_parts_and_nothing_in_it_is_more_than_text() -> None:
    found = page()
    for part in (
        "Learning curves",
        "ROC and precision-recall",
        "Reliability",
        "0.9000 <small>[0.8000, 1.0000]</small>",
    ):
        assert part in found
    assert "skin-area proxy" in found
    assert "7 of test, the surest 1 shown" in found
    for text in ("<script", "<i>run", "<b>a</b>", "abc & def"):
        assert text not in found
    assert "default-src 'none'" in found


def test_pictures_are_covered_only_where_they_are_whole() -> None:
    assert 'class="private"' not in page()
    assert 'id="uncover"' not in page()
    assert page(shown=True).count('class="private"') == 2
    assert 'id="uncover"' in page(shown=True)


def test_what_cannot_be_drawn_is_left_out() -> None:
    one_label = Predictions(predictions().table.head(4), ("safe", "unsafe"), ("unsafe",), "x", "y")
    found = page(predictions=one_label, history={}, errors=[])
    assert "Learning curves" not in found
    assert "ROC and" not in found
    assert "Reliability" in found
