"""Timestamps as the wire shows them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND: Final = timedelta(milliseconds=1)
# RFC 3339 and `datetime` end with the year 9999. A session that an operator lets live longer must still have a view.
_LAST_MS: Final = (datetime.max.replace(tzinfo=UTC) - _EPOCH) // _MILLISECOND


def timestamp(at_ms: int) -> str:
    """Format a time in RFC 3339, in UTC; a time after the year 9999 as the end of that year."""
    at = _EPOCH + min(at_ms, _LAST_MS) * _MILLISECOND
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
