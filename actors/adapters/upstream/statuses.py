"""Meaning of an upstream's error statuses, and of the wait that it asks for. Alike in both APIs."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Final

from ...domain.provider_faults import ModelFault
from ...ports import MissingModelError, ModelError, PermanentError, PortError, TransientError

CLIENT_STATUSES: Final = frozenset({400, 413, 422})
"""Statuses of a faulty body: the upstream's words about it are for the client that wrote it."""
NOT_FOUND: Final = 404
"""A wrong model or address: only the operator can mend that, but it may be one model alone."""

_RETRY_AFTER_MAX_S: Final = 3_600.0
# A gateway's words for a server that it did not wait for, which may still work on the call (524 is Cloudflare's).
_MAY_BE_BILLED: Final = frozenset({504, 524})
# Statuses below 500 that may pass: time-out and lock conflict (source: the SDKs' own retry policy).
_TRANSIENT: Final = frozenset({408, 409})
_FAULTS: Final[Mapping[int, ModelFault]] = {
    # Wrong key, no credit, no right: every request will fail until the operator mends it.
    **dict.fromkeys((401, 402, 403), ModelFault.REFUSED),
    429: ModelFault.LIMITED,
    529: ModelFault.OVERLOADED,
    # Also a gateway's words for a server that it does not reach (those above 520 are Cloudflare's).
    **dict.fromkeys((502, 503, 521, 522, 523, 530), ModelFault.UNAVAILABLE),
}


def fault_of(status: int) -> ModelFault | None:
    """Return the fault that a status tells of the upstream; None for any other error."""
    return _FAULTS.get(status, ModelFault.FAILING if status >= 500 else None)


def status_error(told: str, status: int, headers: Mapping[str, str], fault: ModelFault | None) -> PortError:
    """Return the error of an answer with this status and fault, which came before anything else."""
    wait_s = retry_after_s(headers)
    if fault is not None:
        return ModelError(told, fault, wait_s, answered=status not in _MAY_BE_BILLED)
    if status in _TRANSIENT or not 400 <= status < 500 or headers.get("x-should-retry") == "true":
        return TransientError(told, wait_s)
    return MissingModelError(told) if status == NOT_FOUND else PermanentError(told)


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """Return the wait that the upstream asks for, at most an hour; None without a readable one."""
    for name, read in (("retry-after-ms", _milliseconds), ("retry-after", float), ("retry-after", _until)):
        try:
            wait_s = read(headers[name])
        except (KeyError, ValueError):
            continue
        if math.isfinite(wait_s) and wait_s >= 0:
            return min(wait_s, _RETRY_AFTER_MAX_S)
    return None


def _milliseconds(text: str) -> float:
    return float(text) / 1_000


def _until(date: str) -> float:
    """Return the seconds until a date in the form of HTTP's headers. Raises `ValueError`."""
    return parsedate_to_datetime(date).timestamp() - time.time()
