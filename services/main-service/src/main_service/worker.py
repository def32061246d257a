"""Gunicorn's threaded worker, which stops listening as soon as it is told to end."""

from __future__ import annotations

from gunicorn.workers.gthread import ThreadWorker


class Worker(ThreadWorker):
    """A worker that takes what waits in the listener's queue when it is told to end, and closes the listener then.

    Gunicorn's own keeps it open without accepting until the last request is finished. Meanwhile connections, the
    readiness probe's among them, would be queued, wait for an answer, and be reset in the end.
    """

    def set_accept_enabled(self, enabled: bool | None) -> None:  # noqa: FBT001 - the signature is Gunicorn's
        """Begin or stop to accept connections; called with False once the worker has left its main loop."""
        super().set_accept_enabled(enabled)
        if enabled or self.alive:
            return
        for listener in self.sockets:
            taken = -1
            while self.nr_conns > taken:
                taken = self.nr_conns
                self.accept(listener)
            listener.close()
        self.sockets = []
