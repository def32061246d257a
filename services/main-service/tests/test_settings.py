"""Settings: defaults, good values, and every bad value with the message it gets."""

from __future__ import annotations

import pytest

from main_service.settings import SettingError, Settings


def test_defaults() -> None:
    assert Settings.from_environment({}) == Settings("0.0.0.0:8080", workers=1, threads=4, access_log=True)


def test_an_empty_variable_is_an_unset_one() -> None:
    empty = {"BIND": "", "WORKERS": "", "THREADS": "", "ACCESS_LOG": ""}
    assert Settings.from_environment(empty) == Settings()


@pytest.mark.parametrize("bind", ["127.77.0.12:8080", "localhost:0", "[::1]:8080", "[::]:65535"])
def test_addresses(bind: str) -> None:
    assert Settings.from_environment({"BIND": bind}).bind == bind


def test_numbers_and_switch() -> None:
    settings = Settings.from_environment({"WORKERS": "32", "THREADS": "64", "ACCESS_LOG": "off"})
    assert (settings.workers, settings.threads, settings.access_log) == (32, 64, False)


@pytest.mark.parametrize(
    ("name", "value", "hint"),
    [
        ("BIND", "8080", "HOST:PORT"),
        ("BIND", "localhost", "HOST:PORT"),
        ("BIND", ":8080", "HOST:PORT"),
        ("BIND", "localhost:65536", "HOST:PORT"),
        ("BIND", "::1:8080", "HOST:PORT"),
        ("BIND", "unix:/tmp/socket", "HOST:PORT"),
        ("BIND", "localhost:80\n", "HOST:PORT"),
        ("WORKERS", "0", "1 to 32"),
        ("WORKERS", "33", "1 to 32"),
        ("WORKERS", "-1", "1 to 32"),
        ("WORKERS", "two", "1 to 32"),
        ("WORKERS", "٣", "1 to 32"),
        ("THREADS", "65", "1 to 64"),
        ("THREADS", "1.5", "1 to 64"),
        ("ACCESS_LOG", "yes", "on or off"),
    ],
)
def test_a_bad_value_is_named_with_what_would_do(name: str, value: str, hint: str) -> None:
    with pytest.raises(SettingError) as caught:
        Settings.from_environment({name: value})
    assert f"{name}={value!r}" in str(caught.value)
    assert hint in str(caught.value)
