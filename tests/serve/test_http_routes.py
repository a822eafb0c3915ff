"""The other routes: MLflow's payloads, health, what is told of the model, metrics, the token."""

import base64
import json
from typing import Any

import pytest
from http_server import RedScorer, client, form, picture

from figleaf import __version__
from figleaf.errors import FigleafError
from figleaf.serve.http.limits import Limits
from figleaf.serve.http.token import read_token

RED, BLUE = (base64.b64encode(picture(color)).decode() for color in ("red", "blue"))
TOKEN = "a-token-of-the-test"


@pytest.mark.parametrize(
    "payload",
    [
        {"dataframe_split": {"columns": ["image"], "data": [[RED], [BLUE]]}},
        {"dataframe_split": {"index": [0, 1], "columns": ["id", "image"], "data": [[7, RED], [8, BLUE]]}},
        {"dataframe_records": [{"image": RED}, {"image": BLUE, "id": 8}]},
        {"inputs": {"image": [RED, BLUE]}},
        {"inputs": [{"image": RED}, {"image": BLUE}]},
        {"inputs": [RED, BLUE]},
        {"instances": [{"image": RED}, {"image": BLUE}], "params": {}},
        {"inputs": {"image": [RED[:8] + "\n" + RED[8:], BLUE + "\r\n"]}},
    ],
)
def test_payloads_of_mlflow_are_answered_in_its_form(payload: dict[str, Any]) -> None:
    with client() as http:
        got = http.post("/invocations", json=payload)
    assert got.status_code == 200
    assert list(got.json()) == ["predictions"]
    rows = got.json()["predictions"]
    assert [(row["label"], row["flagged"], row["error"]) for row in rows] == [
        ("nsfw", True, None),
        ("safe", False, None),
    ]


def test_a_payload_has_the_scores_of_a_form() -> None:
    with client() as http:
        (ours,) = http.post("/predict", files=form(picture((90, 3, 4)))).json()["predictions"]
        text = base64.b64encode(picture((90, 3, 4))).decode()
        (theirs,) = http.post("/invocations", json={"inputs": {"image": text}}).json()["predictions"]
    del ours["name"]
    assert theirs == ours


@pytest.mark.parametrize(
    ("body", "kind", "status", "told"),
    [
        ("{", "application/json", 400, "no JSON"),
        (b"\xff\xfe{}", "application/json", 400, "no JSON"),
        ("[" * 2000, "application/json", 400, "no JSON"),
        ("1" * 10_000, "application/json", 400, "no JSON"),
        ("[" * 5000, "application/json", 413, "JSON values"),
        ('{"inputs":[' + "1," * 5000 + "1]}", "application/json", 413, "JSON values"),
        ("[]", "application/json", 400, "one of"),
        ("{}", "application/json", 400, "one of"),
        ('{"inputs": {}, "instances": []}', "application/json", 400, "one of"),
        ('{"inputs": {"image": []}}', "application/json", 400, "empty"),
        ('{"inputs": {"picture": ["x"]}}', "application/json", 400, "inputs.image"),
        ('{"inputs": "x"}', "application/json", 400, "inputs"),
        ('{"dataframe_split": []}', "application/json", 400, "dataframe_split"),
        ('{"dataframe_split": {"columns": ["a"], "data": [["x"]]}}', "application/json", 400, "dataframe_split"),
        ('{"dataframe_split": {"columns": ["image"], "data": [["x", 1]]}}', "application/json", 400, "dataframe_split"),
        ('{"dataframe_split": {"columns": ["image"], "data": [1]}}', "application/json", 400, "dataframe_split"),
        ('{"dataframe_records": {"image": "x"}}', "application/json", 400, "dataframe_records"),
        ('{"dataframe_records": [3]}', "application/json", 422, "base64"),
        ('{"inputs": {"image": ["*"]}}', "application/json", 422, "base64"),
        ('{"inputs": {"image": ["ünicode"]}}', "application/json", 422, "base64"),
        ('{"inputs": {"image": ["\\ud800"]}}', "application/json", 422, "base64"),
        ('{"inputs": {"image": ["data:image/png;base64,AAAA"]}}', "application/json", 422, "comma"),
        ('{"inputs": {"image": [null]}}', "application/json", 422, "base64"),
        ('{"inputs": {"image": ["AAAA"]}}', "application/json", 415, "not an image"),
        (json.dumps({"inputs": [RED] * 33}), "application/json", 413, "32 pictures"),
        ("image\nAAAA", "text/csv", 415, "application/json"),
        ("", "application/json", 400, "no JSON"),
    ],
)
def test_a_broken_payload_is_refused_with_its_reason(body: str | bytes, kind: str, status: int, told: str) -> None:
    with client() as http:
        got = http.post("/invocations", content=body, headers={"Content-Type": kind})
        assert http.get("/health").status_code == 200
    assert (got.status_code, got.json()["status"]) == (status, status)
    assert told in got.json()["error"]


def test_a_payload_with_one_bad_picture_has_answers_for_the_others() -> None:
    with client(picture_bytes=len(picture())) as http:
        long = base64.b64encode(bytes(300)).decode()
        rows = http.post("/invocations", json={"inputs": [RED, "!", long]}).json()["predictions"]
    assert [row["status"] for row in rows] == [200, 422, 413]


def test_health_and_mlflows_own_routes() -> None:
    with client() as http:
        assert http.get("/health").json() == {"live": True, "ready": True, "waiting": 0}
        assert http.get("/health/live").status_code == http.get("/health/ready").status_code == 200
        assert (http.get("/ping").status_code, http.get("/ping").text) == (200, "\n")
        assert http.get("/version").text == __version__


def test_about_tells_what_it_was_given_and_there_is_no_page_that_loads_scripts() -> None:
    with client() as http:
        assert http.get("/").json() == http.get("/about").json() == {"model": {"name": "red"}}
        assert http.get("/docs").status_code == http.get("/redoc").status_code == 404
        assert {"/predict", "/invocations"} <= set(http.get("/openapi.json").json()["paths"])
        refused = http.get("/<script>")
        assert (refused.status_code, refused.json()) == (404, {"error": "Not Found", "status": 404})
        assert http.get("/predict").status_code == 405


def test_metrics_count_requests_pictures_and_batches() -> None:
    with client() as http, client() as other:
        http.post("/predict", files=form(picture(), b"none"))
        http.post("/predict", content=b"", headers={"Content-Type": "text/plain"})
        http.get("/nowhere/1")
        got = http.get("/metrics")
        elsewhere = other.get("/metrics").text
    assert got.headers["content-type"].startswith("text/plain")
    lines = got.text.splitlines()
    assert 'figleaf_requests_total{route="/predict",status="200"} 1.0' in lines
    assert 'figleaf_requests_total{route="/predict",status="415"} 1.0' in lines
    assert 'figleaf_requests_total{route="other",status="404"} 1.0' in lines
    assert 'figleaf_pictures_total{status="200"} 1.0' in lines
    assert 'figleaf_pictures_total{status="415"} 1.0' in lines
    assert 'figleaf_request_seconds_count{route="/predict"} 2.0' in lines
    assert "figleaf_batch_size_sum 1.0" in lines
    assert "figleaf_queue_pictures 0.0" in lines
    assert "figleaf_held_bytes 0.0" in lines
    assert "figleaf_requests_total{" not in elsewhere


@pytest.mark.parametrize(
    "given", [None, "Bearer wrong", f"Basic {TOKEN}", f"Bearer {TOKEN}x", "Bearer", f"bearer{TOKEN}"]
)
@pytest.mark.parametrize("path", ["/predict", "/invocations", "/about", "/metrics", "/openapi.json", "/nowhere"])
def test_without_the_token_nothing_is_done(path: str, given: str | None) -> None:
    scorer = RedScorer()
    with client(scorer, token=TOKEN) as http:
        headers = {} if given is None else {"Authorization": given}
        got = http.post(path, files=form(picture()), headers=headers)
        assert http.get(path, headers=headers).status_code == 401
    assert got.status_code == 401
    assert got.headers["www-authenticate"] == "Bearer"
    assert TOKEN not in got.text
    assert not scorer.batches


def test_with_the_token_everything_is_open_and_probes_need_none() -> None:
    with client(token=TOKEN) as http:
        headers = {"Authorization": f"Bearer {TOKEN}"}
        assert http.post("/predict", files=form(picture()), headers=headers).status_code == 200
        assert http.get("/metrics", headers=headers).status_code == 200
        twice = [("Authorization", f"Bearer {TOKEN}"), ("Authorization", "Bearer x")]
        assert http.get("/about", headers=twice).status_code == 401
        for probe in ("/ping", "/health", "/health/live", "/health/ready"):
            assert http.get(probe).status_code == 200


def test_a_token_comes_from_a_file_or_the_environment_and_is_never_shown(tmp_path: Any) -> None:
    file = tmp_path / "token"
    file.write_text(f"{TOKEN}\n")
    file.chmod(0o600)
    warned: list[str] = []
    token = read_token(file, {}, warned.append)
    assert token is not None
    assert token.is_in(f"Bearer {TOKEN}")
    assert TOKEN not in repr(token) + str(token)
    assert not warned
    file.chmod(0o644)
    read_token(file, {}, warned.append)
    assert "chmod 600" in warned[0]
    environment = {"FIGLEAF_TOKEN": TOKEN}
    found = read_token(None, environment, warned.append)
    assert found is not None
    assert found.is_in(f"bearer {TOKEN}")
    assert not environment  # programs that are started later do not get it
    assert read_token(None, {}, warned.append) is None


@pytest.mark.parametrize(
    ("content", "environment", "told"),
    [
        ("short", {}, "at least 16"),
        ("with a space in between", {}, "printable ASCII"),
        ("größer als sechzehn", {}, "printable ASCII"),
        ("x" * 5000, {}, "longer"),
        (None, {}, "No such file"),
        (TOKEN, {"FIGLEAF_TOKEN": TOKEN}, "one of the two"),
    ],
)
def test_a_token_that_is_none_is_refused_without_being_shown(
    content: str | None, environment: dict[str, str], told: str, tmp_path: Any
) -> None:
    file = tmp_path / "token"
    if content is not None:
        file.write_text(content)
    with pytest.raises(FigleafError, match=told) as refused:
        read_token(file, environment, lambda _: None)
    assert content is None or content not in str(refused.value)


@pytest.mark.parametrize(
    "changes",
    [{"pictures": 0}, {"seconds": float("nan")}, {"pictures": 9, "queue": 8}, {"request_bytes": 9, "held_bytes": 8}],
)
def test_limits_that_no_request_could_keep_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(FigleafError, match=next(iter(changes))):
        Limits(**changes)


@pytest.mark.parametrize(
    ("headers", "is_local"),
    [
        ({"Host": "localhost:8000"}, True),
        ({"Host": "[::1]:8000", "Origin": "http://127.0.0.1:3000"}, True),
        ({"Host": "evil.example:8000"}, False),
        ({"Host": "127.0.0.1.evil.example"}, False),
        ({"Origin": "https://evil.example"}, False),
        ({"Origin": "null"}, False),
    ],
)
def test_without_a_token_no_page_of_elsewhere_is_answered(headers: dict[str, str], is_local: bool) -> None:
    """A browser on this machine would reach the server for it, by its own name or by one that leads here."""
    with client() as http:
        assert http.get("/about", headers=headers).status_code == (200 if is_local else 403)
        sent = http.post("/predict", files=form(picture()), headers=headers)
        assert sent.status_code == (200 if is_local else 403)
        assert http.get("/health", headers=headers).status_code == 200, "probes are told nothing"
    with client(token=TOKEN) as http:
        known = {**headers, "Authorization": f"Bearer {TOKEN}"}
        assert http.get("/about", headers=known).status_code == 200, "whoever has the token is asked for no name"
