"""Counters that all workers share and that outlive each of them.

The memory is an anonymous shared mapping, made by the master before it forks. Each worker writes to a row of its own,
so no lock is shared between processes: a worker that is killed can neither leave one locked nor take another's counts
along. The master gives the row of a dead worker to its successor, which counts on from there.

A request is one addition to one cell, the one of its outcome, and the number of all requests is the sum of the cells.
A cell is eight aligned bytes that are written by one store. So a worker that is killed has counted its last request
wholly or not at all, and the numbers agree with each other at any instant.
"""

from __future__ import annotations

import mmap
import threading
from enum import IntEnum
from http import HTTPStatus
from typing import TypedDict

# A reload starts the new workers before it ends the old ones, so there are up to twice as many; and room to spare.
ROWS = 128
_CELL_BYTES = 8

# The shape of the answer is fixed: the exporter reads these names.
Snapshot = TypedDict("Snapshot", {"400_count": int, "500_count": int, "request_count": int})


class Outcome(IntEnum):
    """What became of a request; the value is its cell's place in a row."""

    OTHER = 0
    BAD_REQUEST = 1
    SERVER_ERROR = 2

    @classmethod
    def of(cls, status: int) -> Outcome:
        """Tell the outcome from an HTTP status code: 400 and 500 themselves, not the classes they belong to."""
        if status == HTTPStatus.BAD_REQUEST:
            return cls.BAD_REQUEST
        if status == HTTPStatus.INTERNAL_SERVER_ERROR:
            return cls.SERVER_ERROR
        return cls.OTHER


class Counters:
    """Counts of requests by outcome, in memory that is shared with every process forked later."""

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, ROWS * len(Outcome) * _CELL_BYTES)
        self._cells = memoryview(self._memory).cast("Q")
        self._free = list(reversed(range(ROWS)))
        # Between the threads of one process; the row keeps processes apart.
        self._lock = threading.Lock()
        self._row: int | None = None

    def claim(self) -> int:
        """Take a row for a process about to be forked. Only the process that made the counters may call this.

        Raises:
            RuntimeError: there are as many processes as rows.

        """
        if not self._free:
            raise RuntimeError(f"no more than {ROWS} workers can count at once")
        return self._free.pop()

    def release(self, row: int) -> None:
        """Give back the row of a process that is dead for certain. Its counts stay; releasing it again does nothing."""
        if row not in self._free:
            self._free.append(row)

    def use(self, row: int) -> None:
        """Count in this row from now on. A row belongs to one process at a time."""
        self._row = row

    def add(self, outcome: Outcome) -> None:
        """Count one request.

        Raises:
            RuntimeError: the process has no row.

        """
        if self._row is None:
            raise RuntimeError("this process has no row to count in: call use() after the fork")
        cell = self._row * len(Outcome) + outcome
        with self._lock:
            self._cells[cell] += 1

    def snapshot(self) -> Snapshot:
        """Add the rows up. Every request that was answered before the call is in it."""
        cells = self._cells.tolist()
        bad_requests = sum(cells[Outcome.BAD_REQUEST :: len(Outcome)])
        server_errors = sum(cells[Outcome.SERVER_ERROR :: len(Outcome)])
        return {"400_count": bad_requests, "500_count": server_errors, "request_count": sum(cells)}
