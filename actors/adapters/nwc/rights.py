"""Rights of a connection to a wallet: those that we need, those that nobody should have, and its budget.

Source: `get_info` of NIP-47 names the methods that this very connection may use; Alby Hub and LNbits do so. Where it
may not be asked, the wallet's info event names what the wallet can do at all.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import Final

import msgspec

from ...ports import TransientError
from .exchange import Exchange
from .messages import NO_RIGHT, Budget, Info, read

_NEEDED: Final = ("make_invoice", "lookup_invoice", "list_transactions", "pay_invoice", "get_balance")
# Alby Hub's right to make other connections, and with them any budget.
_EXCESS: Final = frozenset({"create_connection"})
_KEY_UNKNOWN: Final = frozenset({"UNAUTHORIZED", "EXPIRED"})


class RightsTrouble(StrEnum):
    """Faults of a connection."""

    KEY_UNKNOWN = "key_unknown"
    NO_MAKE_INVOICE = "no_make_invoice"
    NO_LOOKUP_INVOICE = "no_lookup_invoice"
    NO_LIST_TRANSACTIONS = "no_list_transactions"
    NO_PAY_INVOICE = "no_pay_invoice"
    NO_GET_BALANCE = "no_get_balance"


class Rights(msgspec.Struct, frozen=True):
    """Rights of a connection. `trouble` is the first fault; `pushes` says whether we are told of payments."""

    methods: frozenset[str]
    trouble: RightsTrouble | None
    pushes: bool
    network: str | None

    @property
    def excess(self) -> Sequence[str]:
        """Rights to spend or to give rights that nothing here needs."""
        return sorted(_EXCESS & self.methods)


async def rights_of(exchange: Exchange) -> Rights:
    """Return the rights of a connection. Moves and orders nothing. Raises `PortError`."""
    event = await exchange.info()
    offered = frozenset(event.content.split()) if event is not None else frozenset()
    pushed = event is not None and (bool(event.tagged("notifications")) or "notifications" in offered)
    answer = await exchange.ask("get_info", {})
    if answer.error is not None and answer.error.code in _KEY_UNKNOWN:
        return Rights(frozenset(), RightsTrouble.KEY_UNKNOWN, pushes=False, network=None)
    if answer.error is not None and answer.error.code in NO_RIGHT:
        return Rights(offered, _trouble(offered), pushed, network=None)
    info = read(answer, Info)
    methods = offered if info.methods is None else frozenset(info.methods)
    pushes = pushed if info.notifications is None else "payment_received" in info.notifications
    return Rights(methods, _trouble(methods), pushes, info.network)


async def budget_of(exchange: Exchange, rights: Rights) -> Budget | None:
    """Return the budget of a connection, None without one, or where the wallet does not tell. Raises `PortError`."""
    if "get_budget" not in rights.methods:
        return None
    budget = read(await exchange.ask("get_budget", {}), Budget)
    return budget if budget.total_budget else None


async def rights_trouble(exchange: Exchange) -> RightsTrouble | None:
    """Return the first fault of a connection. Raises `TransientError`."""
    return (await rights_of(exchange)).trouble


def _trouble(methods: frozenset[str]) -> RightsTrouble | None:
    if not methods:
        raise TransientError("the wallet does not tell what this connection may do")
    for method in _NEEDED:
        if method not in methods:
            return RightsTrouble(f"no_{method}")
    return None
