"""Counters: rows, outcomes, and what a kill in the middle of counting leaves."""

from __future__ import annotations

import mmap
import os
import signal
import sys
import threading
import time

import pytest

from main_service.counters import ROWS, Counters, Outcome

NOTHING = {"400_count": 0, "500_count": 0, "request_count": 0}


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        (200, Outcome.OTHER),
        (302, Outcome.OTHER),
        (400, Outcome.BAD_REQUEST),
        (401, Outcome.OTHER),
        (404, Outcome.OTHER),
        (500, Outcome.SERVER_ERROR),
        (503, Outcome.OTHER),
    ],
)
def test_only_the_codes_that_give_the_names_count_as_errors(status: int, outcome: Outcome) -> None:
    assert Outcome.of(status) is outcome


def test_every_request_is_in_the_sum() -> None:
    counters = Counters()
    assert counters.snapshot() == NOTHING
    counters.use(counters.claim())
    for outcome in (Outcome.OTHER, Outcome.BAD_REQUEST, Outcome.BAD_REQUEST, Outcome.SERVER_ERROR):
        counters.add(outcome)
    assert counters.snapshot() == {"400_count": 2, "500_count": 1, "request_count": 4}


def test_a_process_without_a_row_cannot_count() -> None:
    counters = Counters()
    with pytest.raises(RuntimeError, match="no row"):
        counters.add(Outcome.OTHER)
    assert counters.snapshot() == NOTHING


def test_a_row_goes_to_one_process_at_a_time_and_keeps_its_counts() -> None:
    counters = Counters()
    rows = [counters.claim() for _ in range(ROWS)]
    assert sorted(rows) == list(range(ROWS))
    with pytest.raises(RuntimeError, match=str(ROWS)):
        counters.claim()
    counters.use(rows[3])
    counters.add(Outcome.SERVER_ERROR)
    counters.release(rows[3])
    counters.release(rows[3])
    assert counters.claim() == rows[3]
    with pytest.raises(RuntimeError):
        counters.claim()
    assert counters.snapshot() == {"400_count": 0, "500_count": 1, "request_count": 1}


def test_threads_lose_nothing() -> None:
    counters = Counters()
    counters.use(counters.claim())

    def count() -> None:
        for _ in range(20_000):
            counters.add(Outcome.BAD_REQUEST)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        threads = [threading.Thread(target=count) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    assert counters.snapshot() == {"400_count": 160_000, "500_count": 0, "request_count": 160_000}


def test_a_process_that_is_killed_while_it_counts_leaves_a_whole_number() -> None:
    """Killed at any instant, a process has counted what it finished, and at most the one it was at."""
    counters = Counters()
    row = counters.claim()
    # How often the child had begun to count, and how often it had finished; over all its lives.
    marks = memoryview(mmap.mmap(-1, 16)).cast("Q")
    for life in range(60):
        counters.use(row)
        before = counters.snapshot()["request_count"]
        marks[0] = marks[1] = before
        child = os.fork()
        if child == 0:
            while True:
                marks[0] += 1
                counters.add(Outcome.BAD_REQUEST)
                marks[1] += 1
        while marks[1] < before + 50:
            time.sleep(0)
        time.sleep(life / 50_000)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        after = counters.snapshot()
        assert marks[1] <= after["request_count"] <= marks[0]
        assert after["400_count"] == after["request_count"]
