"""Logging: readable on a terminal, JSON lines elsewhere, without secrets.

All entries of a process, those of libraries included, go through here to standard error.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import sys
from collections.abc import Callable
from typing import Any, Final, TextIO

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from .log_socket import LOG_SOCKET, SocketHandler

_REDACTED: Final = "[redacted]"
# Compared without case and punctuation, so that `X-Api-Key`, `api_key` and `apiKey` are one name.
_SECRET_NAMES: Final = frozenset({"prompt", "request", "result", "text", "body", "token", "paymentrequest", "bolt11"})
_SECRET_PARTS: Final = (
    "authorization", "macaroon", "preimage", "apikey", "rootkey", "invoicekey", "adminkey", "password", "secret",
    "operatortoken", "cookie",
)  # fmt: skip
_URL_CREDENTIALS: Final = re.compile(r"://[^/@\s]+@")
_URL_PASSWORD: Final = re.compile(r"(password=)[^&\s]+")
# At lower levels these libraries log whole requests, with keys in addresses and headers, and clients' prompts.
_TALKATIVE: Final = ("anthropic", "httpcore", "httpx", "httpx2", "websockets", "urllib3", "asyncio", "uvicorn.error")

# Answers that fail after they have begun are cut off on purpose, which uvicorn reports as an error.
_CUT_SHORT: Final = "ASGI callable returned without completing response."


def configure_logging(level: str, out: TextIO | None = None) -> None:
    """Set up logging for this process; `level` is debug, info, warning or error. May be called again.

    Entries go to `out`, or to the socket that the environment names, or to standard error.
    """
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
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
    path = os.environ.get(LOG_SOCKET)
    handler: logging.Handler
    origin: list[Processor] = []
    if out is None and path:
        handler, for_people = SocketHandler(path), False
        # The entries of all processes are in one stream, so each needs its process id.
        origin = [_add_pid]
    else:
        stream = out or sys.stderr
        handler, for_people = logging.StreamHandler(stream), stream.isatty()
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *origin, *_rendering(for_people)],
        )
    )
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    for name in _TALKATIVE:
        logging.getLogger(name).setLevel(max(logging.WARNING, logging.getLevelName(level.upper())))
    logging.getLogger("uvicorn.error").addFilter(_is_news)


def _add_pid(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    return {**event, "pid": os.getpid()}


def _is_news(record: logging.LogRecord) -> bool:
    """Return False for uvicorn's entry on a cut-off answer, which the middleware logs with the request's id."""
    return record.msg != _CUT_SHORT


def printer(out: TextIO) -> Callable[[bytes], None]:
    """Return a printer of entries that other processes have rendered, in the format of this process."""
    render = _rendering(out.isatty())[-1]

    def write(line: bytes) -> None:
        text = line.decode(errors="replace")
        if out.isatty():
            with contextlib.suppress(ValueError):  # The line was cut off.
                text = str(render(None, "", json.loads(line)))
        out.write(f"{text}\n")
        out.flush()

    return write


def _rendering(for_people: bool) -> list[Processor]:
    # Both render exceptions without the values of local variables, which hold prompts and keys.
    if for_people:
        plain = structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
        return [structlog.processors.format_exc_info, redact, plain]
    return [structlog.processors.format_exc_info, redact, structlog.processors.JSONRenderer(default=str)]


def redact(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Redact the secrets of an entry: values under secret names, at any depth, and credentials inside addresses."""
    return {name: _clean(name, value) for name, value in event.items()}


def _clean(name: str, value: Any) -> Any:
    if _is_secret(name):
        return _REDACTED
    if isinstance(value, str):
        return _URL_PASSWORD.sub(rf"\1{_REDACTED}", _URL_CREDENTIALS.sub(f"://{_REDACTED}@", value))
    if isinstance(value, dict):
        return {key: _clean(str(key), inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_clean("", inner) for inner in value]
    return value


def _is_secret(name: str) -> bool:
    plain = re.sub(r"[^a-z0-9]", "", name.lower())
    return plain in _SECRET_NAMES or any(part in plain for part in _SECRET_PARTS)
