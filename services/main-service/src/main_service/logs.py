"""Logs as lines of JSON: requests on standard output, everything else on standard error."""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from gunicorn.glogging import Logger

from main_service.app import WATCHERS

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import timedelta
    from typing import Any

# Characters of a path in a log line. A line of up to 4096 bytes (PIPE_BUF) reaches a pipe in one piece, whoever else
# writes to it, and in JSON a character takes six of them at most.
MAX_PATH = 512


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time, level, process, message, and what the record carries besides."""

    def format(self, record: logging.LogRecord) -> str:
        """Give the line for a record."""
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "pid": record.process,
        }
        fields: Mapping[str, object] | None = getattr(record, "request", None)
        if fields is None:
            line["message"] = record.getMessage()
        else:
            line |= fields
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line)


class JsonLogger(Logger):
    """Gunicorn's logger with lines of JSON, and a line for exactly the requests that count.

    Of a request it writes the path only: query, headers and body may hold what should not be in a log.
    """

    def setup(self, cfg: Any) -> None:  # noqa: ANN401 - the type of the superclass's argument
        """Take Gunicorn's handlers over, with another form."""
        super().setup(cfg)
        for log in (self.error_log, self.access_log):
            for handler in log.handlers:
                handler.setFormatter(JsonFormatter())
        # Flask's own logger, which writes what an endpoint failed of
        application = logging.getLogger("main_service")
        application.handlers = list(self.error_log.handlers)
        application.propagate = False

    def access(self, resp: Any, req: Any, environ: Mapping[str, Any], request_time: timedelta) -> None:  # noqa: ANN401, ARG002
        """Write the line of a request that was answered."""
        path = str(environ.get("PATH_INFO", ""))
        if not self.access_log_enabled or path in WATCHERS:
            return
        fields = {
            "remote": environ.get("REMOTE_ADDR"),
            "method": environ.get("REQUEST_METHOD"),
            "path": path[:MAX_PATH],
            "status": int(str(resp.status)[:3]),
            "bytes": resp.sent,
            "seconds": round(request_time.total_seconds(), 6),
        }
        self.access_log.info("request", extra={"request": fields})
