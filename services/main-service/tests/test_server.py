"""The real server: exact counts under load and kills, shutdown, logs, start."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection, HTTPException
from typing import TYPE_CHECKING

import pytest
from harness import PATIENCE, SOURCE, Service

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    Serve = Callable[..., AbstractContextManager[Service]]

# What the load asks for, in turn, and the status it should get.
MIX = [
    ("/index", 200),
    ("/action?rounds=1", 200),
    ("/action?rounds=none", 400),
    ("/error_endpoint", 500),
    ("/nothing", 404),
    ("/healthz", 200),
    ("/metrics", 200),
]
COUNTED = [(path, status) for path, status in MIX if path not in {"/healthz", "/metrics"}]


class Load:
    """Clients with a connection each; what they asked for and what they got."""

    def __init__(self, service: Service, clients: int) -> None:
        self._service = service
        self._pool = ThreadPoolExecutor(clients)
        self._clients = clients
        self._stop = threading.Event()

    def send(self, requests: int) -> tuple[Counter[str], Counter[str]]:
        """Send so many requests from each client, or until stopped; give the answered and the lost ones by path."""
        answered: Counter[str] = Counter()
        lost: Counter[str] = Counter()
        for one, other in self._pool.map(self._client, [requests] * self._clients):
            answered += one
            lost += other
        return answered, lost

    def stop(self) -> None:
        """Have the clients end with the request they are at."""
        self._stop.set()

    def _client(self, requests: int) -> tuple[Counter[str], Counter[str]]:
        answered: Counter[str] = Counter()
        lost: Counter[str] = Counter()
        connection = self._service.connect()
        for number in range(requests):
            if self._stop.is_set():
                break
            path, expected = MIX[number % len(MIX)]
            try:
                connection.request("GET", path)
                response = connection.getresponse()
                response.read()
            except (OSError, HTTPException):
                lost[path] += 1
                connection.close()
            else:
                assert response.status == expected, path
                answered[path] += 1
        connection.close()
        return answered, lost


def between(answered: Counter[str], lost: Counter[str], status: int | None) -> tuple[int, int]:
    """Give the fewest and the most requests with this status (any, for None) that can have been counted."""
    paths = [path for path, its in COUNTED if status in {None, its}]
    fewest = sum(answered[path] for path in paths)
    return fewest, fewest + sum(lost[path] for path in paths)


def test_counts_are_exact_under_several_workers_and_threads(serve: Serve) -> None:
    with serve(WORKERS="3", THREADS="4") as service:
        service.eventually(lambda: len(service.workers()) == 3)
        answered, lost = Load(service, clients=12).send(2_800)
        assert not lost
        assert answered.total() == 33_600
        assert service.counts() == {"400_count": 4_800, "500_count": 4_800, "request_count": 24_000}
        # Whichever worker is asked.
        assert all(service.counts()["request_count"] == 24_000 for _ in range(20))
        # All of them had a part in it, and the log has a line for each request that counts.
        assert service.stop() == 0
        lines = service.requests_logged()
        assert len(lines) == 24_000
        assert len({line["pid"] for line in lines}) == 3


def test_a_killed_worker_takes_no_counts_along(serve: Serve) -> None:
    with serve(WORKERS="3", THREADS="4", ACCESS_LOG="off") as service:
        load = Load(service, clients=12)
        with ThreadPoolExecutor(1) as background:
            sending = background.submit(load.send, 100_000)
            last = 0
            for _ in range(6):
                before = service.counts()["request_count"]
                assert before >= last
                service.eventually(lambda before=before: service.counts()["request_count"] > before + 1_000)  # type: ignore[misc]
                victim = service.workers()[0]
                os.kill(victim, signal.SIGKILL)
                service.eventually(lambda victim=victim: len(set(service.workers()) - {victim}) == 3)  # type: ignore[misc]
                last = before
            load.stop()
            answered, lost = sending.result(PATIENCE)
        counts = service.counts()
        # A request that was cut off may have been counted; one that was answered must have been.
        for name, status in [("request_count", None), ("400_count", 400), ("500_count", 500)]:
            fewest, most = between(answered, lost, status)
            assert fewest <= counts[name] <= most, (name, lost)
        assert lost.total() <= 6 * 12
        # And from here on they are exact again.
        answered, lost = Load(service, clients=12).send(700)
        assert not lost
        assert service.counts() == {
            "400_count": counts["400_count"] + 1_200,
            "500_count": counts["500_count"] + 1_200,
            "request_count": counts["request_count"] + 6_000,
        }


def test_counts_survive_a_reload_under_load(serve: Serve) -> None:
    with serve(WORKERS="2", ACCESS_LOG="off") as service:
        old = set(service.workers())
        load = Load(service, clients=6)
        with ThreadPoolExecutor(1) as background:
            sending = background.submit(load.send, 100_000)
            service.eventually(lambda: service.counts()["request_count"] > 500)
            service.process.send_signal(signal.SIGHUP)
            service.eventually(lambda: not old & set(service.workers()) and len(service.workers()) == 2)
            load.stop()
            answered, lost = sending.result(PATIENCE)
        counts = service.counts()
        for name, status in [("request_count", None), ("400_count", 400), ("500_count", 500)]:
            fewest, most = between(answered, lost, status)
            assert fewest <= counts[name] <= most, (name, lost)


def test_sigterm_finishes_requests_under_way_and_turns_readiness_off(serve: Serve) -> None:
    with serve() as service:
        index, ready, alive = service.begin("/index"), service.begin("/readyz"), service.begin("/healthz")
        time.sleep(0.2)
        service.process.send_signal(signal.SIGTERM)
        # Whoever comes now is refused at once, not left to wait.
        service.eventually(lambda: service.status("/readyz") is None)
        assert service.process.poll() is None
        assert service.finish(ready).startswith(b"HTTP/1.1 503 ")
        assert service.finish(alive).startswith(b"HTTP/1.1 200 ")
        assert service.finish(index).startswith(b"HTTP/1.1 200 ")
        assert service.ended() == 0
        assert [line["path"] for line in service.requests_logged()] == ["/index"]


def test_sigterm_loses_no_request_that_was_taken(serve: Serve) -> None:
    """More connections than threads, so that some wait for their turn when the signal comes."""
    with serve(THREADS="1") as service:
        busy = service.begin("/index")
        time.sleep(0.2)
        waiting = [service.begin("/action") for _ in range(10)]
        service.process.send_signal(signal.SIGTERM)
        answers = [service.finish(connection) for connection in [busy, *waiting]]
        assert [answer.split(b"\r\n")[0] for answer in answers] == [b"HTTP/1.1 200 OK"] * 11
        assert service.ended() == 0
        assert len(service.requests_logged()) == 11


def test_sigterm_ends_an_idle_service_at_once(serve: Serve) -> None:
    with serve(WORKERS="2") as service:
        started = time.monotonic()
        assert service.stop() == 0
        assert time.monotonic() - started < 5


def test_a_worker_ends_with_its_master(serve: Serve) -> None:
    with serve() as service:
        workers = service.workers()
        service.process.kill()
        service.eventually(lambda: service.status("/healthz") is None)
        service.ended()
        assert len(workers) == 1


def test_a_request_is_a_line_of_json_without_what_may_be_secret(serve: Serve) -> None:
    with serve() as service:
        connection = service.connect()
        headers = {"Authorization": "Bearer canary", "Cookie": "a=canary", "Referer": "http://canary/"}
        connection.request("POST", "/action?rounds=5&token=canary", body=b"canary", headers=headers)
        assert connection.getresponse().read()
        connection.close()
        assert service.status("/%22%0a%00%c3%a9" + "x" * 3_000) == 404
        assert service.status("/healthz") == 200
        assert service.stop() == 0
        first, second = service.requests_logged()
        assert sorted(first) == ["bytes", "level", "method", "path", "pid", "remote", "seconds", "status", "time"]
        assert (first["method"], first["path"], first["status"]) == ("POST", "/action", 200)
        assert first["remote"] == "127.0.0.1"
        assert first["bytes"] > 0
        assert 0 < first["seconds"] < PATIENCE
        assert first["time"].endswith("+00:00")
        assert second["path"].startswith('/"\n\0')
        assert len(second["path"]) == 512
        assert "canary" not in "".join(service.stdout + service.stderr)


def test_the_access_log_can_be_switched_off(serve: Serve) -> None:
    with serve(ACCESS_LOG="off") as service:
        assert service.status("/index") == 200
        assert service.stop() == 0
        assert service.stdout == []


def test_a_request_that_is_no_http_is_refused_and_not_counted(serve: Serve) -> None:
    with serve() as service:
        with socket.create_connection((service.host, service.port), PATIENCE) as connection:
            connection.sendall(b"hello\r\n\r\n")
            assert connection.recv(4096).startswith(b"HTTP/1.1 400 ")
        assert service.counts() == {"400_count": 0, "500_count": 0, "request_count": 0}


def test_it_runs_without_a_home_and_leaves_nothing_in_its_folder(serve: Serve) -> None:
    with serve(HOME="/nonexistent", PYTHONDONTWRITEBYTECODE="1") as service:
        assert service.status("/index") == 200
        assert service.stop() == 0
        assert not [line for line in service.stderr if json.loads(line)["level"] != "info"]


def refused(**variables: str) -> subprocess.CompletedProcess[str]:
    """Start the service where it cannot start."""
    return subprocess.run(
        [sys.executable, "-m", "main_service"],
        env={"PYTHONPATH": str(SOURCE), "PATH": os.environ["PATH"]} | variables,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


def test_a_setting_that_cannot_be_used_is_told_in_one_line() -> None:
    result = refused(WORKERS="many")
    assert result.returncode == 78
    assert result.stderr == "main-service: WORKERS='many' cannot be used: write a whole number from 1 to 32\n"
    assert result.stdout == ""


def test_an_address_that_is_taken_is_told() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        result = refused(BIND=address)
    assert result.returncode == 1
    messages = [json.loads(line)["message"] for line in result.stderr.splitlines()]
    assert any("in use" in message and "127.0.0.1" in message for message in messages)


@pytest.mark.parametrize("bind", ["127.77.0.12:0", "[::1]:0"])
def test_it_listens_where_it_is_told_to(serve: Serve, bind: str) -> None:
    host = bind.rsplit(":", 1)[0].strip("[]")
    with serve(BIND=bind) as service:
        connection = HTTPConnection(host, service.port, timeout=PATIENCE)
        connection.request("GET", "/index")
        assert connection.getresponse().status == 200
        connection.close()
