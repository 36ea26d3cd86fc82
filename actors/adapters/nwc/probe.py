"""Probe of a wallet before money moves: its connection, the rights and the budget of it, and what it tells."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, TypeVar

import httpx

from ....config.held_secrets import held
from ....config.problem import Problem
from ....config.settings import Settings
from ...domain.money import MSAT_PER_SAT, Msat
from ...ports import InvoiceOrder, PermanentError, PortError, TransientError
from ..lightning.backend import Probed
from ..lightning.descriptions import description_of
from .connection import read_connection
from .exchange import Answer, Exchange
from .messages import NO_RIGHT, Balance, Budget, Direction, Page, State, Transaction, read, read_new_invoice
from .rights import Rights, RightsTrouble, budget_of, rights_of

T = TypeVar("T")
URL: Final = "NWC_URL"
_MAINNET: Final = frozenset({"mainnet", "bitcoin"})
_TIMEOUT_S: Final = 5.0
# Invoice that shows that the wallet makes them and keeps their text. It is never shown to a client, and lapses.
_TRIAL: Final = InvoiceOrder(1, "Satmeter: does this wallet make invoices?", 60, "check_0")
_EDIT: Final = "edit the connection in the wallet, or make another one with this right"

# What no wallet can say by NIP-47.
_UNTOLD: Final = (
    "Nostr Wallet Connect does not tell how much the wallet can receive, and takes no limit for routing fees: look at "
    "the wallet's own pages."
)

TROUBLES: Final[Mapping[str, str]] = {
    RightsTrouble.KEY_UNKNOWN: "The wallet does not know this connection, or its time is over: make another one.",
    RightsTrouble.NO_MAKE_INVOICE: f"The connection may not make invoices (make_invoice): {_EDIT}.",
    RightsTrouble.NO_LOOKUP_INVOICE: f"The connection may not look payments up (lookup_invoice): {_EDIT}.",
    RightsTrouble.NO_LIST_TRANSACTIONS: f"The connection may not list payments (list_transactions): {_EDIT}.",
    RightsTrouble.NO_PAY_INVOICE: f"The connection may not pay (pay_invoice), so no refund can be paid: {_EDIT}.",
    RightsTrouble.NO_GET_BALANCE: f"The connection may not ask for the balance (get_balance): {_EDIT}.",
}


async def probe(settings: Settings, http: httpx.AsyncClient, *, may_order: bool) -> Probed:
    """Return what is wrong with the connection, and what the wallet tells (see `Probe`). It pays nothing."""
    url = held(settings.nwc_url) or ""
    try:
        connection = read_connection(url)
    except ValueError as error:
        return Probed([Problem(URL, f"The connection can't be read: {error}. Copy it from the wallet as it is.")])
    exchange = Exchange(url, timeout_s=min(_TIMEOUT_S, settings.lightning_timeout_s))
    try:
        return await _asked(exchange, may_order=may_order)
    except TransientError as error:
        relays = " and ".join(connection.relays)
        # Many wallets leave a key that they do not know without an answer.
        text = (
            f"The wallet can't be asked ({error}): look whether it runs, whether it still lists this connection, and "
            f"whether {relays} can be reached."
        )
        return Probed([Problem(URL, text)], away=True)
    except PermanentError as error:
        return Probed([Problem(URL, f"{str(error)[:1].upper()}{str(error)[1:]}".removesuffix(".") + ".")])
    finally:
        await exchange.close()


async def _asked(exchange: Exchange, *, may_order: bool) -> Probed:
    """Return what the wallet's answers show. Raises `PortError`."""
    rights = await rights_of(exchange)
    if rights.trouble is not None:
        return Probed([Problem(URL, TROUBLES[rights.trouble])])
    warnings = [*_warnings(rights)]
    for direction in Direction:
        await _told(exchange, "list_transactions", {"type": direction, "limit": 1, "offset": 0}, Page)
    if may_order and not await _trial(exchange):
        text = (
            "The wallet tells no states of payments: one that fails can't be told from one under way, and its refund "
            "stays pending. Take another wallet if you can."
        )
        warnings.append(text)
    balance_msat = Msat(max(0, (await _told(exchange, "get_balance", {}, Balance)).balance))
    budget = await budget_of(exchange, rights)
    made = ["A test invoice over 1 sat was made and found again."] if may_order else []
    return Probed(
        warnings=[Problem(URL, text) for text in warnings], proofs=[*made, *_budget(budget, balance_msat), _UNTOLD]
    )


def _warnings(rights: Rights) -> list[str]:
    found = []
    if rights.excess:
        found.append(
            f"The connection may do more than this server needs ({', '.join(rights.excess)}): who gets hold of it "
            "can use it beyond any budget. Make one without this right."
        )
    if not rights.pushes:
        found.append("The wallet pushes no news of payments: they are found by the next look for them.")
    if rights.network is not None and rights.network not in _MAINNET:
        found.append(f"The wallet is on {rights.network}: its sats are worth nothing.")
    return found


def _budget(budget: Budget | None, balance_msat: Msat) -> list[str]:
    """Return how much can be paid out, in words."""
    balance_sats = balance_msat.whole_sats
    if budget is None:
        return [f"It can pay out up to {balance_sats:,} sats; the connection has no budget of its own."]
    left_sats = max(0, budget.total_budget - budget.used_budget) // MSAT_PER_SAT
    period = budget.renewal_period if budget.renewal_period not in (None, "", "never") else None
    renewed = f"a {period} budget" if period else "a budget that is not renewed"
    text = (
        f"It can pay out up to {min(balance_sats, left_sats):,} sats: the connection has {renewed} of "
        f"{budget.total_budget // MSAT_PER_SAT:,} sats, of which {left_sats:,} are left."
    )
    return [text]


async def _trial(exchange: Exchange) -> bool:
    """Make an invoice and find it. Return whether the wallet tells its state. Raises `PortError`."""
    params = {"amount": _TRIAL.amount_sats * MSAT_PER_SAT, "description": description_of(_TRIAL), "expiry": 60}
    invoice = read_new_invoice(await _allowed(exchange, "make_invoice", params), _TRIAL)
    row = await _told(exchange, "lookup_invoice", {"payment_hash": invoice.payment_hash}, Transaction)
    if row.hash != invoice.payment_hash or row.incoming_state() is not State.UNPAID:
        raise _not_found()
    return row.state is not None


async def _told(exchange: Exchange, method: str, params: Mapping[str, Any], kind: type[T]) -> T:
    """Return the answer to a question. Raises `PortError`."""
    return read(await _allowed(exchange, method, params), kind)


async def _allowed(exchange: Exchange, method: str, params: Mapping[str, Any]) -> Answer:
    """Return the answer to a question.

    A wallet that may not be asked for the connection's rights, as LNbits's without "Read account info", shows only here
    that one is missing. Raises `PermanentError` with the remedy then, and `TransientError`.
    """
    answer = await exchange.ask(method, params)
    if answer.error is not None and answer.error.code in NO_RIGHT:
        raise PermanentError(TROUBLES[RightsTrouble(f"no_{method}")])
    return answer


def _not_found() -> PortError:
    return PermanentError("the wallet does not find the invoice that it has just made")
