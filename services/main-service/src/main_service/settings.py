"""Settings, from environment variables alone."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

# More are no use to a service that grows by replicas, and a mistyped number should not fork a machine to death.
MAX_WORKERS = 32
MAX_THREADS = 64

# A name or an IPv4 address, or an IPv6 address in brackets; then the port.
_ADDRESS = re.compile(r"(?P<host>[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\]):(?P<port>[0-9]{1,5})")
_MAX_PORT = 65535


class SettingError(ValueError):
    """An environment variable has a value that cannot be used."""


@dataclass(frozen=True, slots=True)
class Settings:
    """How the service runs."""

    bind: str = "0.0.0.0:8080"
    """Address and port to listen on; port 0 takes a free one, which the log names."""
    workers: int = 1
    """Processes that answer. One: replicas are what the service scales by, and a second process costs memory."""
    threads: int = 4
    """Requests that each worker answers at once."""
    access_log: bool = True
    """Whether each counted request becomes a line on standard output."""

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Settings:
        """Read ``BIND``, ``WORKERS``, ``THREADS`` and ``ACCESS_LOG``; what is unset or empty has its default.

        Raises:
            SettingError: a value cannot be used; the message names the variable, the value and what would do.

        """
        default = cls()
        return cls(
            bind=_address(environment.get("BIND") or default.bind),
            workers=_number("WORKERS", environment.get("WORKERS"), default.workers, MAX_WORKERS),
            threads=_number("THREADS", environment.get("THREADS"), default.threads, MAX_THREADS),
            access_log=_switch("ACCESS_LOG", environment.get("ACCESS_LOG"), default=default.access_log),
        )


def _address(text: str) -> str:
    match = _ADDRESS.fullmatch(text)
    if match is None or int(match["port"]) > _MAX_PORT:
        raise SettingError(
            f"BIND={text!r} is no address to listen on: write HOST:PORT, such as 0.0.0.0:8080 or [::]:8080"
        )
    return text


def _number(name: str, text: str | None, default: int, maximum: int) -> int:
    if not text:
        return default
    if not re.fullmatch(r"[0-9]{1,4}", text) or not 1 <= int(text) <= maximum:
        raise SettingError(f"{name}={text!r} cannot be used: write a whole number from 1 to {maximum}")
    return int(text)


def _switch(name: str, text: str | None, *, default: bool) -> bool:
    if not text:
        return default
    if text not in {"on", "off"}:
        raise SettingError(f"{name}={text!r} cannot be used: write on or off")
    return text == "on"
