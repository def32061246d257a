"""Start of the service: ``python -m main_service``."""

from __future__ import annotations

import os
import sys

from main_service.server import Server
from main_service.settings import SettingError, Settings

# sysexits.h: a configuration error
EX_CONFIG = 78


def main() -> None:
    """Read the settings from the environment and serve until a signal ends it."""
    try:
        settings = Settings.from_environment(os.environ)
    except SettingError as error:
        print(f"main-service: {error}", file=sys.stderr)  # noqa: T201 - there is no log yet
        sys.exit(EX_CONFIG)
    Server(settings).run()


if __name__ == "__main__":
    main()
