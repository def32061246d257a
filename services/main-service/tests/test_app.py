"""The application, without a server: what it answers and what it counts."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import pytest

from main_service.app import create_app
from main_service.counters import Counters

if TYPE_CHECKING:
    from flask import Flask
    from flask.testing import FlaskClient


@pytest.fixture
def app() -> Flask:
    counters = Counters()
    counters.use(counters.claim())
    return create_app(counters, ready=lambda: True)


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    return app.test_client()


def counts(client: FlaskClient) -> tuple[int, int, int]:
    """Give the number of requests, of those answered with 400, and of those with 500."""
    answer = client.get("/metrics").get_json()
    assert sorted(answer) == ["400_count", "500_count", "request_count"]
    return answer["request_count"], answer["400_count"], answer["500_count"]


def test_metrics_are_exactly_three_numbers(client: FlaskClient) -> None:
    answer = client.get("/metrics")
    assert answer.content_type == "application/json"
    assert answer.get_data(as_text=True) == '{"400_count":0,"500_count":0,"request_count":0}\n'


@pytest.mark.parametrize("path", ["/index", "/action", "/action?rounds=100000"])
def test_what_succeeds_counts_as_a_request(client: FlaskClient, path: str) -> None:
    assert client.get(path).status_code == 200
    assert counts(client) == (1, 0, 0)


def test_the_action_does_the_work_it_says(client: FlaskClient) -> None:
    expected = {"rounds": 7, "digest": hashlib.pbkdf2_hmac("sha256", b"action", b"", 7).hex()}
    assert client.get("/action?rounds=7").get_json() == expected
    assert client.post("/action?rounds=7", data="not looked at").get_json() == expected


@pytest.mark.parametrize("rounds", ["", "0", "-1", "1.5", "x", "100001", "9" * 5000, "%00", "\u0664", "1%0a"])
def test_an_action_that_cannot_be_done_counts_as_400(client: FlaskClient, rounds: str) -> None:
    answer = client.get(f"/action?rounds={rounds}")
    assert answer.status_code == 400
    assert answer.get_json() == {"error": "rounds must be a whole number from 1 to 100000"}
    assert counts(client) == (1, 1, 0)


def test_the_error_endpoint_counts_as_500(client: FlaskClient) -> None:
    answer = client.get("/error_endpoint")
    assert answer.status_code == 500
    assert answer.get_json() == {"error": "this endpoint always fails"}
    assert counts(client) == (1, 0, 1)


def test_other_codes_count_as_requests_only(client: FlaskClient) -> None:
    missing = client.get("/nothing/here")
    assert (missing.status_code, missing.content_type) == (404, "application/json")
    refused = client.delete("/index")
    assert refused.status_code == 405
    assert sorted(refused.headers["Allow"].split(", ")) == ["GET", "HEAD", "OPTIONS"]
    assert counts(client) == (2, 0, 0)


@pytest.mark.parametrize("path", ["/metrics", "/healthz", "/readyz"])
def test_what_watches_the_service_does_not_count(client: FlaskClient, path: str) -> None:
    assert client.get(path).status_code == 200
    assert client.head(path).status_code == 200
    assert client.post(path).status_code == 405
    assert counts(client) == (0, 0, 0)


def test_a_path_that_only_looks_like_a_probe_counts(client: FlaskClient) -> None:
    assert client.get("/healthz/").status_code == 404
    assert client.get("/METRICS").status_code == 404
    assert counts(client) == (2, 0, 0)


def test_a_service_that_stops_is_alive_and_not_ready() -> None:
    client = create_app(Counters(), ready=lambda: False).test_client()
    ready = client.get("/readyz")
    assert (ready.status_code, ready.get_json()) == (503, {"status": "stopping"})
    assert client.get("/healthz").get_json() == {"status": "ok"}


def break_down() -> str:
    raise OSError("the secret of why")


def test_an_endpoint_that_breaks_counts_as_500_and_does_not_say_why(app: Flask) -> None:
    app.add_url_rule("/broken", view_func=break_down)
    client = app.test_client()
    answer = client.get("/broken")
    assert answer.status_code == 500
    assert "secret" not in answer.get_data(as_text=True)
    assert counts(client) == (1, 0, 1)


def test_a_failure_that_the_server_must_answer_counts_as_500(app: Flask) -> None:
    def fail(_: BaseException | None) -> None:
        break_down()

    client = app.test_client()
    # An answer was begun, and never leaves.
    app.teardown_request_funcs[None] = [fail]
    with pytest.raises(OSError, match="why"):
        client.get("/index")
    app.teardown_request_funcs.clear()
    assert counts(client) == (1, 0, 1)
