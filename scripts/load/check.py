"""Check of the books of all sessions over HTTP, once nothing is held any more."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from ...actors.domain.backoff import Backoff
from .api import Holder, Server
from .books import Entry, Status, differences
from .opening import each
from .options import LoadError

_AT_ONCE: Final = 16
_SETTLES_WITHIN_S: Final = 60.0
_LOOK_FIRST_S: Final = 0.05
_LOOK_MAX_S: Final = 1.0


class Books(msgspec.Struct, kw_only=True):
    """Result of the check. Amounts are sums over all sessions.

    `told_msat`: debits that answers reported. `untold_msat`: debits of requests whose outcome this client does not
    know, of which there are `unknown_requests`. `fees_msat`: routing fees of payouts.
    """

    close: bool = True
    sessions: int = 0
    deposited_msat: int = 0
    balance_msat: int = 0
    spent_msat: int = 0
    owed_msat: int = 0
    paid_back_msat: int = 0
    told_msat: int = 0
    untold_msat: int = 0
    fees_msat: int = 0
    unknown_requests: int = 0
    ledger_entries: int = 0
    differences: int = 0
    first_difference: str | None = None


async def check_books(server: Server, holders: Sequence[Holder], done: Callable[[int], None]) -> Books:
    """Read and compare the books of each session; `done` gets their count so far. Raises `LoadError`."""
    books = Books()

    async def check(holder: Holder) -> None:
        status, entries = await _settled(server, holder)
        _add(books, holder, status, entries)
        done(books.sessions)

    await each(holders, check, _AT_ONCE)
    return books


async def _settled(server: Server, holder: Holder) -> tuple[Status, list[Entry]]:
    """Return the session and its ledger as of one moment, once nothing is held.

    After a while, return them also while something is held. Raises `LoadError` when the two never agree.
    """
    loop = asyncio.get_running_loop()
    deadline_s, backoff = loop.time() + _SETTLES_WITHIN_S, Backoff(_LOOK_FIRST_S, _LOOK_MAX_S)
    while True:
        status = await server.show(holder)
        late = loop.time() > deadline_s
        if not status.held_msat or late:
            entries = await server.ledger(holder)
            # Something may have moved between the two reads.
            if await server.show(holder) == status:
                return status, entries
            if late:
                raise LoadError(f"The books of {holder.session_id} can't be checked: they don't come to rest.")
        await asyncio.sleep(backoff.next())


def _add(books: Books, holder: Holder, status: Status, entries: Sequence[Entry]) -> None:
    found = list(differences(holder.tally, status, entries))
    books.sessions += 1
    books.deposited_msat += status.deposited_msat
    books.balance_msat += status.balance_msat
    books.spent_msat += status.spent_msat
    books.owed_msat += status.refund.owed_msat
    books.paid_back_msat += status.refund.paid_msat
    books.told_msat += holder.tally.told_msat
    books.untold_msat += sum(holder.tally.untold(entries).values())
    books.fees_msat += sum(e.amount_msat for e in entries if e.kind == "debit" and e.request_id is None)
    books.unknown_requests += holder.tally.unknown
    books.ledger_entries += len(entries)
    books.differences += len(found)
    if found and books.first_difference is None:
        books.close = False
        books.first_difference = f"{status.session_id}: {found[0]}"
