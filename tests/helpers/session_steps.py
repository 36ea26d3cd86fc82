"""Steps of a session on a host, as the front makes them."""

from __future__ import annotations

from msgspec.structs import replace

from satmeter.actors.domain.behaviour import Once
from satmeter.actors.domain.credentials.caveats import Grant
from satmeter.actors.domain.money import Msat
from satmeter.actors.domain.payments.invoices import Settle
from satmeter.actors.domain.session.messages import (
    Ask,
    GetLedger,
    GetSession,
    LedgerEntry,
    LedgerPage,
    OpenSession,
    RequestAnswer,
    SessionCreated,
    SessionView,
)
from satmeter.actors.router.router import Router
from tests.helpers.jobs import BTC

SES = "ses_0123456789abcdefghijklmnopqrstuv"
GRANT = Grant(generation=1)


def ask(number: int = 1, *, key: str | None = None, stream: bool = False, **changes: object) -> Ask:
    """A request; with a key it may be sent again by its client."""
    once = Once(key or f"req_{number}", "digest", keyed=key is not None)
    command = Ask(f"req_{number}", "say hello", "sonnet", None, stream, once, GRANT, BTC)
    return replace(command, **changes)


async def opened(router: Router, amount_sats: int = 10_000) -> SessionCreated:
    """A session that is paid for."""
    created = await router.call(SES, OpenSession(amount_sats, "client"))
    assert isinstance(created, SessionCreated)
    await router.call(SES, Settle(created.deposit_invoice.payment_hash, Msat.from_sats(amount_sats)))
    return created


async def show(router: Router) -> SessionView:
    """The session, whose numbers must add up at every instant."""
    view = await router.call(SES, GetSession(GRANT))
    assert isinstance(view, SessionView)
    parts = view.balance_msat + view.held_msat + view.spent_msat + view.refund.owed_msat + view.refund.paid_msat
    assert view.deposited_msat == parts
    return view


async def answered(router: Router, command: Ask) -> RequestAnswer:
    """The answer as a whole."""
    answer = await router.call(SES, command)
    assert isinstance(answer, RequestAnswer)
    return answer


async def ledger(router: Router) -> tuple[LedgerEntry, ...]:
    """All entries, read in pages of three."""
    found: list[LedgerEntry] = []
    while True:
        page = await router.call(SES, GetLedger(found[-1].seq if found else 0, 3, GRANT))
        assert isinstance(page, LedgerPage)
        if not page.entries:
            return tuple(found)
        found += page.entries
