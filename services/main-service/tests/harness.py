"""The real service, as a process of its own."""

from __future__ import annotations

import json
import os
import queue
import signal
import socket
import subprocess
import sys
import threading
import time
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

SOURCE = Path(__file__).parent.parent / "src"
# Seconds that anything may take; generous, for machines with other work.
PATIENCE = 30


class Service:
    """A running service: its address, its processes and what it wrote."""

    def __init__(
        self, variables: dict[str, str], *, python: Path = Path(sys.executable), user: int | None = None
    ) -> None:
        environment = {"PYTHONPATH": str(SOURCE), "PATH": os.environ["PATH"], "BIND": "127.0.0.1:0"} | variables
        self.process = subprocess.Popen(
            [python, "-m", "main_service"],
            env=environment,
            cwd="/",
            user=user,
            group=user,
            extra_groups=None if user is None else [],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.stdout: list[str] = []
        self.stderr: list[str] = []
        self._messages: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._readers = [
            threading.Thread(target=self._read, args=(self.process.stdout, self.stdout, None)),
            threading.Thread(target=self._read, args=(self.process.stderr, self.stderr, self._messages)),
        ]
        for reader in self._readers:
            reader.start()

    @staticmethod
    def _read(stream: Any, lines: list[str], messages: queue.SimpleQueue[str] | None) -> None:  # noqa: ANN401
        for line in stream:
            lines.append(line)
            if messages is not None:
                messages.put(json.loads(line)["message"])

    def message(self, beginning: str) -> str:
        """Wait for the next message on standard error that begins so."""
        end = time.monotonic() + PATIENCE
        while (left := end - time.monotonic()) > 0:
            message = self._messages.get(timeout=left)
            if message.startswith(beginning):
                return message
        raise TimeoutError(beginning)

    def wait_until_ready(self) -> None:
        """Wait until the service listens and answers; set its address."""
        address = self.message("Listening at: http://").removeprefix("Listening at: http://").split()[0]
        host, port = address.rsplit(":", 1)
        self.host = host.strip("[]")
        self.port = int(port)
        self.eventually(lambda: self.status("/readyz") == 200)

    @staticmethod
    def eventually(holds: Callable[[], bool]) -> None:
        """Wait until something holds."""
        end = time.monotonic() + PATIENCE
        while not holds():
            assert time.monotonic() < end, "it never became so"
            time.sleep(0.02)

    def connect(self) -> HTTPConnection:
        """Give a new connection to the service."""
        return HTTPConnection(self.host, self.port, timeout=PATIENCE)

    def status(self, path: str) -> int | None:
        """Give the status code of one request, or None where there is no answer."""
        connection = self.connect()
        try:
            connection.request("GET", path)
            return connection.getresponse().status
        except (OSError, HTTPException):
            return None
        finally:
            connection.close()

    def counts(self) -> dict[str, int]:
        """Give what the service counted."""
        connection = self.connect()
        try:
            connection.request("GET", "/metrics")
            counts: dict[str, int] = json.load(connection.getresponse())
        finally:
            connection.close()
        return counts

    def begin(self, path: str) -> socket.socket:
        """Open a connection and send all of a request but the line that ends it."""
        connection = socket.create_connection((self.host, self.port), PATIENCE)
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: service\r\n".encode())
        return connection

    @staticmethod
    def finish(connection: socket.socket) -> bytes:
        """Send the end of a request that was begun, and give the whole answer."""
        with connection:
            connection.sendall(b"Connection: close\r\n\r\n")
            return b"".join(iter(lambda: connection.recv(4096), b""))

    def workers(self) -> list[int]:
        """Give the process ids of the workers."""
        task = f"/proc/{self.process.pid}/task/{self.process.pid}/children"
        return [int(pid) for pid in Path(task).read_text(encoding="ascii").split()]

    def stop(self) -> int:
        """End the service with SIGTERM, wait for it, and give its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.ended()

    def ended(self) -> int:
        """Wait until the service has ended and everything it wrote was read; give its exit code."""
        code = self.process.wait(PATIENCE)
        for reader in self._readers:
            reader.join(PATIENCE)
        return code

    def close(self) -> None:
        """End the service if it still runs, and let go of what belonged to it."""
        if self.process.poll() is None:
            self.stop()
        for stream in (self.process.stdout, self.process.stderr):
            if stream is not None:
                stream.close()

    def requests_logged(self) -> list[dict[str, Any]]:
        """Give the lines of the access log."""
        return [json.loads(line) for line in self.stdout]
