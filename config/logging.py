"""Logging: readable on a terminal, JSON lines elsewhere and in production, without secrets.

All entries of a process, those of libraries included, go through here to standard error, or to the process that prints
for all of a server.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final, TextIO

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from .log_context import STEPS, add_context, name_actor
from .log_redaction import redact
from .log_socket import LOG_SOCKET, SocketHandler, log_sockets
from .log_terminal import TerminalRenderer
from .settings import Settings

# At lower levels these libraries log whole requests, with keys in addresses and headers, and clients' prompts.
_TALKATIVE: Final = ("anthropic", "httpcore", "httpx", "httpx2", "websockets", "urllib3", "asyncio", "uvicorn.error")
# Answers that fail after they have begun are cut off on purpose, which uvicorn reports as an error.
_CUT_SHORT: Final = "ASGI callable returned without completing response."
# Exceptions come without the values of local variables, which hold prompts and keys.
_JSON: Final = structlog.processors.JSONRenderer(default=str)
# These come first in each line, so that lines can be compared by eye.
_FIRST: Final = ("timestamp", "level", "event", "process", "pid", "request_id", "session_id", "job_id", "actor_id")


def log_by(settings: Settings, process: str, out: TextIO | None = None, node_id: str | None = None) -> None:
    """Set up logging as the settings say, for the process of this name; see `configure_logging`."""
    configure_logging(
        settings.log_level,
        out,
        process=process,
        node_id=node_id,
        steps=settings.log_requests == "steps",
        for_people=False if settings.production else None,
    )


def configure_logging(
    level: str,
    out: TextIO | None = None,
    *,
    process: str | None = None,
    node_id: str | None = None,
    steps: bool = False,
    for_people: bool | None = None,
) -> None:
    """Set up logging for this process; `level` is debug, info, warning or error. May be called again.

    Entries go to `out`; without it to the socket that the environment names, or to that of the server of the Ray node
    `node_id`; or to standard error. for_people: not as JSON; without it, on terminals. steps: tell what went well.
    """
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        add_context,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        partial(_add_origin, {"pid": os.getpid()} | ({"process": process} if process else {})),
    ]
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.PositionalArgumentsFormatter(),
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
    )
    handler: logging.Handler
    path = os.environ.get(LOG_SOCKET)
    stream = out or sys.stderr
    render: Processor = _JSON
    if out is None and path:
        handler = SocketHandler(lambda: [Path(path)])
    elif out is None and node_id is not None:
        handler = SocketHandler(lambda: log_sockets(node_id), sys.stderr)
    else:
        handler = logging.StreamHandler(stream)
        render = _renderer(stream, for_people)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.format_exc_info,
                name_actor,
                redact,
                _ordered,
                render,
            ],
        )
    )
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    logging.captureWarnings(capture=True)
    for name in _TALKATIVE:
        logging.getLogger(name).setLevel(max(logging.WARNING, logging.getLevelName(level.upper())))
    logging.getLogger("uvicorn.error").addFilter(_is_news)
    logging.getLogger(STEPS).setLevel(logging.NOTSET if steps or level == "debug" else logging.WARNING)


def printer(out: TextIO, *, for_people: bool | None = None) -> Callable[[Sequence[bytes]], None]:
    """Return a printer of entries that other processes have rendered, in the format of this process."""
    render = _renderer(out, for_people)

    def shown(line: bytes) -> str:
        with contextlib.suppress(ValueError, AttributeError):  # The line was cut off.
            return str(render(None, "", json.loads(line)))
        return line.decode(errors="replace")

    def write(lines: Sequence[bytes]) -> None:
        text = b"\n".join(lines).decode(errors="replace") if render is _JSON else "\n".join(map(shown, lines))
        out.write(f"{text}\n")
        out.flush()

    return write


def is_for_people(out: TextIO, settings: Settings) -> bool:
    """Return whether a person reads along: a terminal, and not in production."""
    return out.isatty() and not settings.production


def _renderer(out: TextIO, for_people: bool | None) -> Processor:
    return TerminalRenderer(out) if (out.isatty() if for_people is None else for_people) else _JSON


def _add_origin(origin: Mapping[str, Any], _logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    return {**origin, **event}


def _ordered(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    return {**{name: event[name] for name in _FIRST if name in event}, **event}


def _is_news(record: logging.LogRecord) -> bool:
    """Return False for uvicorn's entry on a cut-off answer, which the middleware logs with the request's id."""
    return record.msg != _CUT_SHORT
