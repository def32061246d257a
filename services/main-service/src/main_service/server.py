"""The service in its server, Gunicorn: one master that holds the counters, and the workers that it forks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gunicorn.app.base import BaseApplication

from main_service.app import create_app
from main_service.counters import Counters
from main_service.logs import JsonLogger
from main_service.worker import Worker

if TYPE_CHECKING:
    from flask import Flask
    from gunicorn.arbiter import Arbiter
    from gunicorn.workers.base import Worker as AnyWorker

    from main_service.settings import Settings

# Seconds that requests under way may take after SIGTERM. With the 5 seconds that the chart lets pass before it, this is
# less than Kubernetes' own limit of 30.
GRACE = 20
# Seconds a connection may be idle. Longer than the pauses of what polls the service and the 60 seconds of AWS load
# balancers, or a request would now and then meet a connection that is just being closed.
KEEP_ALIVE = 75


class Server(BaseApplication):
    """Gunicorn with this service's configuration. ``run()`` returns by SystemExit when the server has stopped."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._counters = Counters()
        # Rows by the worker's age, its number in the order of forking: it has that before it has a process id.
        self._rows: dict[int, int] = {}
        self._worker: AnyWorker | None = None
        super().__init__()

    def load_config(self) -> None:
        """Configure Gunicorn. No configuration file, no command line: the settings are everything."""
        settings = self._settings
        configuration = {
            "bind": settings.bind,
            "workers": settings.workers,
            "worker_class": Worker,
            "threads": settings.threads,
            # The workers share the memory of what the master has imported.
            "preload_app": True,
            "graceful_timeout": GRACE,
            "keepalive": KEEP_ALIVE,
            "accesslog": "-" if settings.access_log else None,
            "logger_class": JsonLogger,
            "proc_name": "main-service",
            # Nobody asked for a second interface, and it would want a writable home.
            "control_socket_disable": True,
            "pre_fork": self._pre_fork,
            "post_fork": self._post_fork,
            "post_worker_init": self._post_worker_init,
            "child_exit": self._child_exit,
        }
        for name, value in configuration.items():
            self.cfg.set(name, value)

    def load(self) -> Flask:  # type: ignore[override] # the stub's idea of WSGI is narrower than PEP 3333
        """Make the application, once: a reload keeps it, and with it the counters."""
        return create_app(self._counters, self._ready)

    def _ready(self) -> bool:
        """Whether the worker takes new connections; from SIGTERM on it does not."""
        return self._worker is not None and self._worker.alive

    def _pre_fork(self, _: Arbiter, worker: AnyWorker) -> None:
        self._rows[worker.age] = self._counters.claim()

    def _post_fork(self, _: Arbiter, worker: AnyWorker) -> None:
        self._counters.use(self._rows[worker.age])

    def _post_worker_init(self, worker: AnyWorker) -> None:
        self._worker = worker

    def _child_exit(self, _: Arbiter, worker: AnyWorker) -> None:
        """Free the row of a worker that the master has waited for, so that nothing writes to it any more."""
        row = self._rows.pop(worker.age, None)
        if row is not None:
            self._counters.release(row)
