"""Answers under /sessions, good and bad, keep to the document: status, kind, headers and body."""

from __future__ import annotations

from typing import Any

import pytest
import schemathesis

from satmeter.actors.domain.credentials.caveats import violated
from satmeter.actors.domain.errors import Code, Refusal, idempotency_conflict, model_failed, not_found, unavailable
from satmeter.actors.domain.llm.answers import Ending
from satmeter.actors.domain.money import Msat
from satmeter.actors.domain.payments.payouts import RefundState, RefundView, refund_pending
from satmeter.actors.domain.session.messages import (
    Ask,
    CloseSession,
    EntryKind,
    GetLedger,
    GetSession,
    LedgerEntry,
    LedgerPage,
    OpenSession,
    SessionCreated,
    TopUp,
    TopUpInvoice,
)
from satmeter.actors.domain.session.state import SessionState
from tests.api.test_schema import Document
from tests.helpers.http.stubs import SESSION, Stubbed, answer, bearer, pieces, session_view, stubbed
from tests.helpers.jobs import START_MS, invoice

ASKED: dict[str, Any] = {"request": "say hello"}
BODIES: dict[str, Any] = {"": {"amountSats": 500}, "/topup": {"amountSats": 500}, "/request": ASKED, "/close": {}}
OWED = RefundView(Msat(9_000), Msat(0), RefundState.OWED, failed=True)
ENTRIES = tuple(
    LedgerEntry(seq, START_MS, kind, Msat(5), Msat(7), "req_a", f"{seq:064x}", "ben")
    for seq, kind in enumerate(EntryKind, 1)
)
INSUFFICIENT = Refusal(Code.INSUFFICIENT_BALANCE, "Too low.", {"requiredMsat": 5, "balanceMsat": 3})


async def check(api: Stubbed, method: str, path: str, status: int, body: Any = None, **headers: str) -> None:
    """Asks, and fails unless the answer is what the document says of it."""
    document = Document(schemathesis.openapi.from_dict(await api.document()))
    where = path.replace("{sessionId}", SESSION)
    got = await api.http.request(method, where, json=body, headers={**bearer(), **headers})
    document.holds(got, status, method, path)


async def test_good_answers_keep_to_the_document() -> None:
    async with stubbed() as api:
        api.plays(OpenSession, SessionCreated(SESSION, 1, invoice(5, 500), START_MS))
        api.plays(GetSession, session_view(refund=OWED))
        api.plays(TopUp, TopUpInvoice(invoice(9, 500)))
        api.plays(GetLedger, LedgerPage(ENTRIES))
        api.plays(CloseSession, session_view(SessionState.CLOSED, refund=OWED))
        await check(api, "POST", "/sessions", 201, BODIES[""])
        await check(api, "GET", "/sessions/{sessionId}", 200)
        await check(api, "POST", "/sessions/{sessionId}/topup", 201, BODIES["/topup"])
        await check(api, "GET", "/sessions/{sessionId}/ledger", 200)
        await check(api, "POST", "/sessions/{sessionId}/close", 200, {})
        await check(api, "POST", "/dev/stub/invoice", 201, {"amountSats": 5})


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    "reply", [answer(), answer(Ending.LEFT, text=""), answer(Ending.REJECTED, text="", reason="No.", stop_reason=None)]
)
async def test_the_end_of_a_request_keeps_to_the_document(reply: Any, stream: bool) -> None:
    async with stubbed() as api:
        api.plays(Ask, *(pieces("a") if stream else []), reply)
        await check(api, "POST", "/sessions/{sessionId}/request", 200, {**ASKED, "stream": stream})


@pytest.mark.parametrize(
    ("path", "refusal", "status"),
    [
        ("/request", INSUFFICIENT, 402),
        ("/request", Refusal(Code.PAYMENT_REQUIRED, "Pay first."), 402),
        ("/request", violated("max_msat = 5", "Too much."), 403),
        ("/request", not_found("session"), 404),
        ("/request", idempotency_conflict(), 409),
        ("/request", Refusal(Code.EXPIRED, "Over."), 410),
        ("/request", model_failed(), 502),
        ("/request", unavailable("The store"), 503),
        ("/topup", Refusal(Code.PAYMENT_REQUIRED, "Pay first."), 402),
        ("/topup", Refusal(Code.CLOSED, "Over."), 410),
        ("/topup", Refusal(Code.RATE_LIMITED, "Too many.", retry_after_s=60), 429),
        ("/close", refund_pending(), 425),
        ("/close", idempotency_conflict(), 409),
    ],
)
async def test_refusals_keep_to_the_document(path: str, refusal: Refusal, status: int) -> None:
    async with stubbed() as api:
        for command in (Ask, CloseSession):
            api.plays(command, refusal)
        api.plays(TopUp, refusal if path == "/topup" else TopUpInvoice(invoice(9, 500)))
        api.plays(GetSession, session_view())
        await check(api, "POST", f"/sessions/{{sessionId}}{path}", status, BODIES[path])


async def test_an_answer_that_broke_off_keeps_to_the_document() -> None:
    async with stubbed() as api:
        api.plays(Ask, answer(Ending.BROKEN, text="", stop_reason="model_failed"))
        await check(api, "POST", "/sessions/{sessionId}/request", 502, ASKED)


@pytest.mark.parametrize(
    ("method", "path"), [("GET", ""), ("GET", "/ledger"), *[("POST", path) for path in BODIES if path]]
)
async def test_bad_credentials_keep_to_the_document(method: str, path: str) -> None:
    async with stubbed() as api:
        template = f"/sessions/{{sessionId}}{path}"
        await check(api, method, template, 401, BODIES.get(path), Authorization="Bearer x")
        await check(api, method, template, 403, BODIES.get(path), **bearer("moon = full"))
