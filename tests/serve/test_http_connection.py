"""The server on a real socket: bodies that stream in, clients that leave or say nothing, the end."""

import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psutil
import pytest
from http_server import RedScorer, multipart, picture, scoring, until

from figleaf.errors import FigleafError
from figleaf.serve.http import connection
from figleaf.serve.http.app import build_app
from figleaf.serve.http.running import listening_socket, server_of, url_of

PART = b'Content-Disposition: form-data; name="images"; filename="a.png"\r\n\r\n'
BODY, HEADERS = multipart(PART + picture())
KIND = f"Content-Type: {HEADERS['Content-Type']}\r\n"


@contextmanager
def serving(scorer: Any = None, grace: int = 10, **changes: Any) -> Iterator[tuple[int, Any]]:
    """The server in a thread: its port, and its uvicorn."""
    server = server_of(build_app(scoring(scorer, **changes), {}), grace)
    with listening_socket("127.0.0.1", 0, is_protected=False) as listening:
        port = listening.getsockname()[1]
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            until(lambda: server.started)
            yield port, server
        finally:
            server.should_exit = True
            thread.join(30)
            assert not thread.is_alive()


def connected(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=10)


def head(length: str, more: str = "") -> bytes:
    return f"POST /predict HTTP/1.1\r\nHost: localhost\r\n{KIND}{length}\r\n{more}\r\n".encode()


def answer(client: socket.socket) -> tuple[int, dict[str, str], Any]:
    """Status, headers and JSON of the next answer."""
    with client.makefile("rb") as file:
        status = int(file.readline().split()[1])
        headers = {}
        while line := file.readline().strip().decode():
            name, _, value = line.partition(":")
            headers[name.lower()] = value.strip()
        return status, headers, json.loads(file.read(int(headers["content-length"])))


def ask(port: int) -> int:
    with connected(port) as client:
        client.sendall(head(f"Content-Length: {len(BODY)}") + BODY)
        return answer(client)[0]


def test_a_body_that_says_it_is_too_long_is_refused_before_any_of_it_is_asked_for() -> None:
    with serving(request_bytes=10_000) as (port, _), connected(port) as client:
        client.sendall(head("Content-Length: 50000000", "Expect: 100-continue\r\n"))
        status, _, told = answer(client)  # and no 100 before it
        assert status == 413
        assert "10,000 bytes" in told["error"]


def test_fifty_megabytes_without_a_length_are_not_taken_into_memory() -> None:
    with serving(request_bytes=1 << 20) as (port, _):
        assert ask(port) == 200
        before = psutil.Process().memory_info().rss
        most, ends = [before], threading.Event()

        def watch() -> None:
            while not ends.wait(0.005):
                most.append(psutil.Process().memory_info().rss)

        watcher = threading.Thread(target=watch)
        watcher.start()
        with connected(port) as client:
            client.sendall(head("Transfer-Encoding: chunked") + b"%x\r\n%s\r\n" % (len(PART) + 5, b"--B\r\n" + PART))
            piece = b"%x\r\n%s\r\n" % (1 << 16, bytes(1 << 16))
            for _ in range(800):
                client.sendall(piece)  # all of it goes through, and is let go
            client.sendall(b"0\r\n\r\n")
            status, _, told = answer(client)
            client.sendall(head(f"Content-Length: {len(BODY)}") + BODY)
            assert answer(client)[0] == 200  # on the same connection
        ends.set()
        watcher.join()
    assert status == 413
    assert "1,048,576 bytes" in told["error"]
    assert max(most) - before < 20 << 20


def test_who_leaves_in_the_middle_of_a_body_leaves_nothing_behind() -> None:
    with serving() as (port, _):
        for _ in range(20):
            with connected(port) as client:
                client.sendall(head("Content-Length: 5000000") + BODY[:100] + bytes(300_000))
        until(lambda: metric(port, 'figleaf_requests_total{route="/predict",status="499"}') == 20)
        assert metric(port, "figleaf_held_bytes") == 0
        assert ask(port) == 200


def test_a_body_that_does_not_come_is_told_after_the_time() -> None:
    with serving(seconds=0.3) as (port, _), connected(port) as client:
        client.sendall(head("Content-Length: 1000") + BODY[:50])
        status, _, told = answer(client)
        assert status == 408
        assert "0.3 seconds" in told["error"]


def test_all_bodies_together_hold_no_more_than_allowed() -> None:
    with serving(request_bytes=60_000, held_bytes=100_000) as (port, _):
        with connected(port) as first, connected(port) as second:
            first.sendall(head("Content-Length: 60000") + b"--B\r\n" + PART + bytes(55_000))
            until(lambda: metric(port, "figleaf_held_bytes") > 50_000)
            second.sendall(head("Content-Length: 60000") + b"--B\r\n" + PART + bytes(55_000))
            status, headers, told = answer(second)
            assert status == 503
            assert headers["retry-after"] == "1"
            assert "overloaded" in told["error"]
        until(lambda: metric(port, "figleaf_held_bytes") == 0)
        assert ask(port) == 200


def test_who_says_nothing_is_let_go_and_who_works_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "SILENT_S", 0.3)
    scorer = RedScorer()
    scorer.goes.clear()
    with serving(scorer) as (port, _), connected(port) as silent, connected(port) as slow, connected(port) as works:
        slow.sendall(b"POST /predict HT")
        works.sendall(head(f"Content-Length: {len(BODY)}") + BODY)
        start = time.monotonic()
        assert silent.recv(1) == b""
        assert slow.recv(1) == b""
        assert 0.2 < time.monotonic() - start < 5
        time.sleep(0.3)
        scorer.goes.set()
        assert answer(works)[0] == 200


def test_a_body_without_end_after_its_refusal_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "SILENT_S", 0.3)
    with serving(request_bytes=1000) as (port, _), connected(port) as client:
        client.sendall(head("Transfer-Encoding: chunked"))
        start = time.monotonic()
        try:
            while time.monotonic() - start < 10:
                client.sendall(b"64\r\n%s\r\n" % bytes(100))
                time.sleep(0.005)
        except ConnectionError:
            pass
        assert time.monotonic() - start < 5


def test_more_connections_than_allowed_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "CONNECTIONS", 2)
    with serving() as (port, server):
        with connected(port), connected(port):
            until(lambda: len(server.server_state.connections) == 2)
            with connected(port) as third:
                third.sendall(head(f"Content-Length: {len(BODY)}") + BODY)
                status, headers, _ = answer(third)
                assert (status, headers["retry-after"], headers["connection"]) == (503, "1", "close")
        until(lambda: not server.server_state.connections)
        assert ask(port) == 200


@pytest.mark.parametrize(
    "garbage",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(100) + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
        b"POST /predict HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"GET /" + b"a" * 100_000,
        b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"a: b\r\n" * 10_000,
    ],
)
def test_what_is_no_http_does_no_harm(garbage: bytes) -> None:
    with serving() as (port, _):
        with connected(port) as client:
            try:
                client.sendall(garbage)
                assert client.recv(100).startswith(b"HTTP/1.1 4")
            except ConnectionError:
                pass  # it was cut off while it was sent
        assert ask(port) == 200


def test_at_the_end_what_has_begun_is_answered_and_nobody_else_is_let_in() -> None:
    scorer = RedScorer()
    scorer.goes.clear()
    with serving(scorer) as (port, server), connected(port) as client, connected(port) as idle:
        client.sendall(head(f"Content-Length: {len(BODY)}") + BODY)
        until(lambda: scorer.batches)
        server.should_exit = True
        assert idle.recv(1) == b""
        with pytest.raises(ConnectionError):
            ask(port)
        scorer.goes.set()
        assert answer(client)[0] == 200


def test_what_takes_longer_than_the_end_may_take_is_told_so() -> None:
    scorer = RedScorer()
    scorer.goes.clear()
    with serving(scorer, grace=1) as (port, server), connected(port) as client:
        client.sendall(head(f"Content-Length: {len(BODY)}") + BODY)
        until(lambda: scorer.batches)
        server.should_exit = True
        status, _, told = answer(client)
        scorer.goes.set()
        assert status == 503
        assert "stops" in told["error"]


def test_an_address_that_others_reach_takes_a_token() -> None:
    for host in ("0.0.0.0", "::"):
        with pytest.raises(FigleafError, match="token"):
            listening_socket(host, 0, is_protected=False)
    with listening_socket("0.0.0.0", 0, is_protected=True) as listening:
        assert url_of(listening).startswith("http://0.0.0.0:")
    with listening_socket("localhost", 0, is_protected=False) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(FigleafError, match="Address already in use"):
            listening_socket("localhost", port, is_protected=False)
    with pytest.raises(FigleafError, match="no address"):
        listening_socket("no such host", 0, is_protected=False)


def metric(port: int, name: str) -> float:
    with connected(port) as client:
        client.sendall(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        with client.makefile("rb") as file:
            lines = file.read().decode().splitlines()
    return next((float(line.rpartition(" ")[2]) for line in lines if line.startswith(name)), 0.0)
