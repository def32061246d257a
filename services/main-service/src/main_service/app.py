"""What the service answers."""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING

from flask import Blueprint, Flask, current_app, request
from werkzeug.exceptions import BadRequest, HTTPException, InternalServerError

from main_service.counters import Counters, Outcome

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from types import TracebackType
    from typing import TypeAlias
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

    from main_service.counters import Snapshot

    Answer: TypeAlias = tuple[dict[str, str | int], int]
    ExceptionInfo: TypeAlias = tuple[type[BaseException], BaseException, TracebackType] | tuple[None, None, None]

# What watches the service is no load on it: these paths do not count, whatever the method and the answer.
WATCHERS = frozenset({"/healthz", "/metrics", "/readyz"})

DEFAULT_ROUNDS = 1_000
# Some tens of milliseconds of one core.
MAX_ROUNDS = 100_000

_routes = Blueprint("main", __name__)


def create_app(counters: Counters, ready: Callable[[], bool]) -> Flask:
    """Make the WSGI application. It counts in ``counters``; ``ready`` says whether it should still get requests."""
    app = Flask("main_service", static_folder=None)
    app.extensions["main-service"] = (counters, ready)
    app.register_blueprint(_routes)
    app.register_error_handler(HTTPException, _error)
    app.wsgi_app = _Counting(app.wsgi_app, counters)  # type: ignore[method-assign]
    return app


@_routes.get("/index")
def _index() -> Answer:
    return {"service": "main-service"}, 200


@_routes.route("/action", methods=["GET", "POST"])
def _action() -> Answer:
    """Do a piece of work of a given size. Python lets other threads run meanwhile."""
    text = request.args.get("rounds", str(DEFAULT_ROUNDS))
    if not re.fullmatch(r"[0-9]{1,6}", text) or not 1 <= int(text) <= MAX_ROUNDS:
        raise BadRequest(f"rounds must be a whole number from 1 to {MAX_ROUNDS}")
    rounds = int(text)
    return {"rounds": rounds, "digest": hashlib.pbkdf2_hmac("sha256", b"action", b"", rounds).hex()}, 200


@_routes.route("/error_endpoint", methods=["GET", "POST"])
def _error_endpoint() -> Answer:
    raise InternalServerError("this endpoint always fails")


@_routes.get("/metrics")
def _metrics() -> Snapshot:
    counters: Counters = current_app.extensions["main-service"][0]
    return counters.snapshot()


@_routes.get("/healthz")
def _healthz() -> Answer:
    return {"status": "ok"}, 200


@_routes.get("/readyz")
def _readyz() -> Answer:
    ready: Callable[[], bool] = current_app.extensions["main-service"][1]
    return ({"status": "ready"}, 200) if ready() else ({"status": "stopping"}, 503)


def _error(error: HTTPException) -> tuple[dict[str, str], int, list[tuple[str, str]]]:
    headers = [(name, value) for name, value in error.get_headers() if name.lower() != "content-type"]
    return {"error": error.description or error.name}, error.code or 500, headers


class _Counting:
    """Counts every answer before its first byte is sent, so that whoever has an answer finds it counted.

    It wraps the whole application rather than hooking into Flask, whose hooks do not run for every kind of failure.
    """

    def __init__(self, app: WSGIApplication, counters: Counters) -> None:
        self._app = app
        self._counters = counters

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if environ.get("PATH_INFO") in WATCHERS:
            return self._app(environ, start_response)
        code = 0

        def noting(
            status: str, headers: list[tuple[str, str]], exc_info: ExceptionInfo | None = None, /
        ) -> Callable[[bytes], object]:
            nonlocal code
            code = int(status[:3])
            return start_response(status, headers, exc_info)

        try:
            body = self._app(environ, noting)
        except Exception:
            # The server answers in the application's place, with 500.
            self._counters.add(Outcome.SERVER_ERROR)
            raise
        self._counters.add(Outcome.of(code))
        return body
