"""Messages of LNURL servers (LUD-06), as far as they are used. What else they send is skipped."""

from __future__ import annotations

import re
from typing import Annotated, Final, TypeVar

import msgspec

_REASON_CHARS_MAX: Final = 120
_NOT_PLAIN: Final = re.compile(r"[^A-Za-z0-9 .,:;'()/+-]+")
# A longer number could not even be shown.
Amount = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
StructT = TypeVar("StructT", bound=msgspec.Struct)


class Failed(msgspec.Struct, frozen=True):
    """An error, whatever the HTTP status is."""

    status: str
    reason: str = ""

    @property
    def text(self) -> str:
        """Reason in plain letters, cut off: a stranger wrote it, and it is shown to people."""
        return " ".join(_NOT_PLAIN.sub(" ", self.reason[: 4 * _REASON_CHARS_MAX]).split())[:_REASON_CHARS_MAX]


class Tagged(msgspec.Struct, frozen=True):
    """The kind of a code."""

    tag: str


class PayRequest(msgspec.Struct, frozen=True, rename="camel"):
    """The sums that a destination takes, in msat, and the URL at which it makes an invoice. `metadata` is JSON."""

    callback: str
    min_sendable: Amount
    max_sendable: Amount
    metadata: str


class PayInvoice(msgspec.Struct, frozen=True):
    """The invoice."""

    pr: str


def read(body: bytes, kind: type[StructT]) -> StructT | None:
    """Return the message in a body; None for one of another kind."""
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def failure(body: bytes) -> Failed | None:
    """Return the error in a body, if it is one."""
    failed = read(body, Failed)
    return failed if failed is not None and failed.status.upper() == "ERROR" else None
