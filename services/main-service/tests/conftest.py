"""Fixtures that several files use."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
from harness import Service

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager


@pytest.fixture
def serve() -> Callable[..., AbstractContextManager[Service]]:
    """Start services that are ended with the block they are used in."""

    @contextmanager
    def start(**variables: str) -> Iterator[Service]:
        service = Service(variables)
        try:
            service.wait_until_ready()
            yield service
        finally:
            service.close()

    return start
