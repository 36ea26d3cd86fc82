"""Check of phoenixd's password and version. Source: phoenixd 0.8, `Api.kt`.

phoenixd has two passwords: one for everything, and one that can't pay. An order without an invoice tells them apart:
the node looks at the password first.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from ...ports import TransientError
from ..lightning.http_exchange import Answer
from ..lightning.reading import read
from .messages import NodeInfo

# From this release on, the node tells of a payment by its hash.
RELEASE_MIN: Final = (0, 5)
EMPTY_ORDER: Final = {"invoice": ""}
"""Form of an order that can't be carried out: an empty text is no invoice."""

_REFUSED_FORM: Final = frozenset({400, 415, 422})


class Trouble(StrEnum):
    """Faults of the password, or of the phoenixd that it is for."""

    UNKNOWN = "unknown_password"
    LIMITED = "limited_password"
    TOO_OLD = "too_old"


def trouble_of(info: Answer, order: Answer) -> Trouble | None:
    """Return the fault that the answers to `/getinfo` and to an empty order show. Raises `TransientError`."""
    if info.status == 401:
        return Trouble.UNKNOWN
    if info.status != 200:
        raise TransientError(f"the Lightning node answered {info.status}")
    release = read(info.body, NodeInfo).release
    if release is not None and release < RELEASE_MIN:
        return Trouble.TOO_OLD
    if order.status in (401, 403):
        return Trouble.LIMITED
    if order.status not in _REFUSED_FORM:
        raise TransientError(f"the Lightning node answered {order.status} to an empty order")
    return None
