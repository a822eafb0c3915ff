"""`POST /predict`: an answer for each picture, and a clear refusal of everything that is none."""

import threading
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from http_server import CLASSES, UNSAFE, RedScorer, client, form, multipart, picture, until
from PIL import Image

from bad_images import png, write_bad_corpus
from figleaf.evaluate.policy import Policy, Rule

PART = b'Content-Disposition: form-data; name="images"; filename="a.png"\r\n\r\n'


def test_each_picture_has_an_answer_in_order() -> None:
    with client() as http:
        got = http.post("/predict", files=form(picture("red"), picture("blue"), names=["a.png", "b.png"]))
    assert got.status_code == 200
    rows = got.json()["predictions"]
    assert [row["name"] for row in rows] == ["a.png", "b.png"]
    assert [row["flagged"] for row in rows] == [True, False]
    assert [row["label"] for row in rows] == ["nsfw", "safe"]
    assert rows[0]["score"] == pytest.approx(1 / (1 + np.exp(-4)), abs=1e-6)
    assert sum(rows[0]["probabilities"].values()) == pytest.approx(1)
    assert {row["status"] for row in rows} == {200}
    assert {row["error"] for row in rows} == {None}
    assert "action" not in rows[0]


def test_a_policy_gives_each_picture_an_action_and_what_has_no_score_is_reviewed() -> None:
    policy = Policy("", CLASSES, UNSAFE, 2.0, (Rule("block", 0.85), Rule("blur", 0.5)))
    pictures = [picture("red"), picture((190, 0, 0)), picture("blue"), b"no picture"]
    with client(policy=policy, threshold=None) as http:
        rows = http.post("/predict", files=form(*pictures)).json()["predictions"]
    assert [row["action"] for row in rows] == ["block", "blur", "pass", "review"]
    assert [row["flagged"] for row in rows] == [True, True, False, None]
    assert rows[0]["score"] == pytest.approx(1 / (1 + np.exp(-4 / 2)), abs=1e-6)


def test_one_bad_picture_spoils_no_other() -> None:
    with client() as http:
        got = http.post("/predict", files=form(b"text", picture(), picture()[:50], b""))
    assert got.status_code == 200
    rows = got.json()["predictions"]
    assert [row["status"] for row in rows] == [415, 200, 422, 422]
    assert "not an image" in rows[0]["error"]
    assert "empty" in rows[3]["error"]


def test_the_whole_bad_corpus_is_answered_as_predict_answers_it(tmp_path: Path) -> None:
    corpus = [bad for bad in write_bad_corpus(tmp_path) if bad.path.is_file()]
    with client(pictures=100, queue=100) as http:
        got = http.post("/predict", files=[("images", ("x", bad.path.read_bytes())) for bad in corpus])
        alone = http.post("/predict", files=[("images", ("bomb.png", (tmp_path / "bomb.png").read_bytes()))])
        assert http.get("/health").json()["ready"]
    rows = got.json()["predictions"]
    for bad, row in zip(corpus, rows, strict=True):
        assert (row["score"] is not None) == bad.decodes, bad.kind
        assert bad.decodes or (bad.reason in row["error"] and row["status"] in (413, 415, 422)), bad.kind
    assert alone.status_code == 413
    assert "pixels" in alone.json()["error"]


def test_more_pixels_than_allowed_are_refused_by_the_header() -> None:
    with client(pixels=199) as http:
        got = http.post("/predict", files=form(picture(size=(20, 10))))
    assert got.status_code == 413
    assert "199" in got.json()["error"]


@pytest.mark.parametrize(
    ("content", "status", "told"),
    [
        (b"I am no picture", 415, "not an image"),
        (b"<!DOCTYPE html><script>alert(1)</script>", 415, "HTML"),
        (picture()[:50], 422, ""),
        (b"", 422, "empty"),
        (png(60_000, 60_000, 8, 2, b"\0"), 413, "pixels"),
    ],
)
def test_a_request_without_any_picture_gets_the_status_of_what_is_wrong(content: bytes, status: int, told: str) -> None:
    with client() as http:
        got = http.post("/predict", files=form(content))
    assert got.status_code == status
    assert told in got.json()["error"]
    assert got.json()["status"] == status
    assert got.headers["content-type"] == "application/json"


def test_too_many_pictures_are_refused() -> None:
    with client(pictures=2) as http:
        assert http.post("/predict", files=form(*[picture()] * 2)).status_code == 200
        got = http.post("/predict", files=form(*[picture()] * 3))
    assert got.status_code == 413
    assert "2 pictures" in got.json()["error"]


def test_a_picture_with_too_many_bytes_is_refused_and_the_others_are_scored() -> None:
    with client(picture_bytes=500) as http:
        got = http.post("/predict", files=form(picture() + bytes(500), picture()))
        alone = http.post("/predict", files=form(bytes(501)))
    assert [row["status"] for row in got.json()["predictions"]] == [413, 200]
    assert alone.status_code == 413
    assert "500 bytes" in alone.json()["error"]


def test_a_picture_of_exactly_as_many_bytes_as_allowed_is_taken() -> None:
    content = picture()
    with client(picture_bytes=len(content)) as http:
        assert http.post("/predict", files=form(content)).status_code == 200


@pytest.mark.parametrize(
    ("body", "headers", "status", "told"),
    [
        (*multipart(PART + picture(), boundary="B")[:1], {"Content-Type": "image/png"}, 415, "multipart/form-data"),
        (b"", {}, 415, "multipart/form-data"),
        (b"x", {"Content-Type": "multipart/form-data"}, 400, "boundary"),
        (b"x", {"Content-Type": f"multipart/form-data; boundary={'b' * 1000}"}, 400, "oundary"),
        (b"garbage", {"Content-Type": "multipart/form-data; boundary=B"}, 400, "broken multipart"),
        (b"", {"Content-Type": "multipart/form-data; boundary=B"}, 400, "before its last boundary"),
        (b"--B--\r\n", {"Content-Type": "multipart/form-data; boundary=B"}, 400, "no picture"),
        (
            *multipart(PART + picture())[:1],
            {"Content-Type": "multipart/form-data; boundary=A"},
            400,
            "broken multipart",
        ),
        (multipart(PART + picture())[0][:-10], multipart()[1], 400, "before its last boundary"),
        (*multipart(b"\r\nno headers"), 400, "names its field"),
        (*multipart(b"Content-Type: image/png\r\n\r\nx"), 400, "names its field"),
        (*multipart(b"X: " + b"y" * 9000 + b"\r\n\r\nx"), 400, "broken multipart"),
        (*multipart(b"a: b\r\n" * 2000 + b"\r\nx"), 400, "broken multipart"),
        (*multipart(PART.replace(b"images", b"file") + picture()), 422, "images"),
        (*multipart(PART + picture(), b'Content-Disposition: form-data; name="x"\r\n\r\n1'), 422, "images"),
        (multipart(PART + picture())[0], {**multipart()[1], "Content-Encoding": "gzip"}, 415, "packed"),
    ],
)
def test_a_broken_request_is_refused_with_its_reason(
    body: bytes, headers: dict[str, str], status: int, told: str
) -> None:
    with client() as http:
        got = http.post("/predict", content=body, headers=headers)
        assert http.get("/health").status_code == 200
    assert (got.status_code, got.json()["status"]) == (status, status)
    assert told in got.json()["error"]


@pytest.mark.parametrize(
    "name",
    ["../../etc/passwd", "/etc/passwd", "<img src=x onerror=alert(1)>&.png", "größe 图.png", "a\x01b", "x" * 999, ""],
)
def test_a_name_is_only_a_label_and_never_html(name: str) -> None:
    quoted = name.encode().replace(b'"', b"%22")
    body, headers = multipart(PART.replace(b"a.png", quoted) + picture())
    with client() as http:
        got = http.post("/predict", content=body, headers=headers)
    assert got.status_code == 200
    assert got.json()["predictions"][0]["name"] == name[:255]
    assert not {b"<", b">", b"&"} & {bytes([byte]) for byte in got.content}
    assert got.content.isascii()
    assert got.headers["x-content-type-options"] == "nosniff"


def test_a_name_that_is_no_utf8_is_answered() -> None:
    body, headers = multipart(PART.replace(b"a.png", b"\xff\xfe\xed\xa0\x80.png") + picture())
    with client() as http:
        assert "\ufffd" in http.post("/predict", content=body, headers=headers).json()["predictions"][0]["name"]


def test_what_comes_together_is_scored_together_and_answered_as_if_alone() -> None:
    colors = [(value, 0, 255 - value) for value in range(0, 240, 20)]
    scorer = RedScorer()
    with client(scorer, batch_size=8, batch_wait_s=0.1) as http:
        alone = [http.post("/predict", files=form(picture(color))).json()["predictions"][0] for color in colors]
        assert set(scorer.batches) == {1}
        scorer.batches.clear()
        rows = [{}] * len(colors)

        def ask(number: int) -> None:
            rows[number] = http.post("/predict", files=form(picture(colors[number]))).json()["predictions"][0]

        threads = [threading.Thread(target=ask, args=(number,)) for number in range(len(colors))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sum(scorer.batches) == len(colors)
    assert 2 <= max(scorer.batches) <= 8
    assert [row["score"] for row in rows] == pytest.approx([row["score"] for row in alone], abs=1e-6)


def test_a_full_queue_is_told_and_comes_to_life_again() -> None:
    scorer = RedScorer()
    scorer.goes.clear()
    with client(scorer, queue=2, pictures=2) as http:
        first = threading.Thread(target=lambda: http.post("/predict", files=form(picture(), picture())))
        first.start()
        until(lambda: http.get("/health").json()["waiting"] == 2)
        got = http.post("/predict", files=form(picture()))
        assert got.status_code == 503
        assert got.headers["retry-after"] == "1"
        assert "overloaded" in got.json()["error"]
        scorer.goes.set()
        first.join()
        assert http.post("/predict", files=form(picture(), picture())).status_code == 200
        assert http.get("/health").json()["waiting"] == 0


def test_a_score_that_does_not_come_in_time_is_told_and_frees_its_place() -> None:
    scorer = RedScorer()
    scorer.goes.clear()
    with client(scorer, seconds=0.2) as http:
        got = http.post("/predict", files=form(picture()))
        assert got.status_code == 504
        assert http.get("/health").json()["waiting"] == 0
        scorer.goes.set()
        assert http.post("/predict", files=form(picture())).status_code == 200


def test_a_model_that_fails_gives_an_error_without_its_text_and_works_on(caplog: pytest.LogCaptureFixture) -> None:
    scorer = RedScorer()
    with client(scorer) as http:
        scorer.error = RuntimeError("secret of the picture")
        got = http.post("/predict", files=form(picture(), picture()))
        assert got.status_code == 500
        scorer.error = None
        assert http.post("/predict", files=form(picture())).status_code == 200
    assert "secret" not in got.text + caplog.text
    assert "RuntimeError" in caplog.text


def test_logits_that_are_not_finite_are_an_error() -> None:
    scorer = RedScorer()
    scorer.logits = lambda rgb_u8: np.full((len(rgb_u8), 2), np.nan, np.float32)  # type: ignore[method-assign]
    with client(scorer) as http:
        got = http.post("/predict", files=form(picture()))
    assert got.status_code == 500
    assert "finite" in got.json()["error"]


def test_pictures_are_decoded_by_the_project_rule() -> None:
    turned = Image.new("RGB", (32, 16), "blue")
    turned.paste("red", (0, 0, 32, 8))
    buffer = BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6
    turned.save(buffer, "PNG", exif=exif)
    seen = []
    scorer = RedScorer()
    asked = scorer.logits
    scorer.logits = lambda rgb_u8: seen.append(rgb_u8) or asked(rgb_u8)  # type: ignore[method-assign,func-returns-value]
    with client(scorer) as http:
        http.post("/predict", files=form(buffer.getvalue()))
    (batch,) = seen
    assert batch.shape == (1, 8, 8, 3)
    assert tuple(batch[0, 4, 7]) == (255, 0, 0)  # the top has become the right side
    assert tuple(batch[0, 4, 0]) == (0, 0, 255)


def test_nothing_of_a_picture_is_logged(caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]) -> None:
    with client() as http:
        http.post("/predict", files=form(picture(), b"no picture", names=["private-name.png", "private-name.txt"]))
        http.post("/predict?private-name", content=b"private-name", headers={"Content-Type": "text/plain"})
    shown = capfd.readouterr()
    assert "private-name" not in caplog.text + shown.out + shown.err
