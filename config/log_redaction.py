"""Redaction of log entries: logs are read by more people than the store, and shipped to other machines."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any, Final

from structlog.typing import EventDict, WrappedLogger

_REDACTED: Final = "[redacted]"
# Compared without case and punctuation, so that `X-Api-Key`, `api_key` and `apiKey` are one name.
_SECRET_NAMES: Final = frozenset({"prompt", "request", "result", "text", "body", "token", "paymentrequest", "bolt11"})
_SECRET_PARTS: Final = (
    "authorization", "macaroon", "preimage", "apikey", "rootkey", "invoicekey", "adminkey", "password", "secret",
    "operatortoken", "cookie",
)  # fmt: skip
_URL_CREDENTIALS: Final = re.compile(r"://[^/@\s]+@")
_URL_PASSWORD: Final = re.compile(r"(password=)[^&\s]+")
# A client that has a job's id reads its text and takes its refund. The first characters tell jobs apart; the 22 others,
# of 6 bits each, can't be guessed.
_JOB_ID: Final = re.compile(r"(job_[A-Za-z0-9_-]{10})[A-Za-z0-9_-]{22}")
# Invoices, which show what is paid and to whom, and macaroons as clients send them.
_INVOICE: Final = re.compile(r"ln(?:bcrt|bc|tbs|tb)[0-9]{0,12}[munp]?1[02-9ac-hj-np-z]{80,}", re.IGNORECASE)
_MACAROON: Final = re.compile(r"(?<![A-Za-z0-9+/_-])Ag[EI][A-Za-z0-9+/_-]{60,}={0,2}")
_SHORTEST: Final = 36


def redact(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Redact the secrets of an entry: values under secret names, at any depth, and what is one wherever it stands.

    A job's id is cut short: its first characters are enough to follow it.
    """
    return {name: _clean(name, value) for name, value in event.items()}


def _clean(name: str, value: Any) -> Any:
    if _is_secret(name):
        return _REDACTED
    if isinstance(value, str):
        return _clean_text(value)
    if isinstance(value, dict):
        return {_clean_text(str(key)): _clean(str(key), inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_clean("", inner) for inner in value]
    if isinstance(value, bool | int | float | None):
        return value
    return _clean_text(str(value))


def _clean_text(text: str) -> str:
    if "@" in text or "password=" in text:
        text = _URL_PASSWORD.sub(rf"\1{_REDACTED}", _URL_CREDENTIALS.sub(f"://{_REDACTED}@", text))
    if len(text) < _SHORTEST:
        return text
    return _MACAROON.sub(_REDACTED, _INVOICE.sub(_REDACTED, _JOB_ID.sub(r"\1...", text)))


@lru_cache(1_024)
def _is_secret(name: str) -> bool:
    plain = re.sub(r"[^a-z0-9]", "", name.lower())
    return plain in _SECRET_NAMES or any(part in plain for part in _SECRET_PARTS)
