"""Sessions over HTTP: looking, topping up, the ledger. Actors are played (see `stubs`)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
import pytest_asyncio
from msgspec import structs

from satmeter.actors.domain.credentials.caveats import Action, Grant
from satmeter.actors.domain.errors import Code, Refusal, not_found
from satmeter.actors.domain.money import Msat
from satmeter.actors.domain.payments.payouts import PayoutRefusal, RefundState, RefundView
from satmeter.actors.domain.session.messages import (
    CloseSession,
    EntryKind,
    GetLedger,
    GetSession,
    LedgerEntry,
    LedgerPage,
    TopUp,
    TopUpInvoice,
)
from satmeter.actors.domain.session.state import SessionState
from satmeter.actors.ports import TransientError
from satmeter.config.settings import Environment
from satmeter.http.app import create_app
from tests.helpers.http.fronts import Json, client_of
from tests.helpers.http.stubs import OTHER_SESSION, SESSION, Stubbed, bearer, session_view, stubbed, token
from tests.helpers.jobs import START_MS, invoice

KEY = {"Idempotency-Key": "a-key-of-mine"}
DEPOSIT = invoice(5, 1_000)


@pytest_asyncio.fixture
async def api() -> AsyncIterator[Stubbed]:
    async with stubbed() as front:
        yield front


# Looking


async def test_a_session_is_shown_whole(api: Stubbed) -> None:
    api.plays(GetSession, session_view())
    answer = await api.get()
    assert answer.status_code == 200 and answer.headers["cache-control"] == "no-store"
    body = answer.json()
    pending = body.pop("pendingInvoices")
    assert [(one["paymentHash"], one["amountSats"]) for one in pending] == [(f"{7:064x}", 200), (f"{8:064x}", 300)]
    assert body == {
        "sessionId": SESSION,
        "state": "active",
        "balanceMsat": 899_999,
        "balanceSats": 899,
        "heldMsat": 50_000,
        "depositedMsat": 1_000_000,
        "spentMsat": 50_001,
        "refund": {"owedMsat": 0, "paidMsat": 0, "payableSats": 0, "state": "none"},
        "expiresAt": "2027-01-16T08:00:00.000Z",
    }


async def test_a_payout_that_failed_is_told(api: Stubbed) -> None:
    refund = RefundView(Msat(900_000), Msat(0), RefundState.OWED, failed=True, payable_sats=891)
    api.plays(GetSession, session_view(SessionState.CLOSED, refund=refund))
    shown = (await api.get()).json()["refund"]
    assert "another invoice" in shown.pop("failure") and shown.pop("failureCode") == "payment_failed"
    assert shown == {"owedMsat": 900_000, "paidMsat": 0, "payableSats": 891, "state": "owed"}


@pytest.mark.parametrize("refusal", PayoutRefusal)
async def test_a_payout_that_the_server_can_t_make_asks_for_no_other_invoice(
    api: Stubbed, refusal: PayoutRefusal
) -> None:
    refund = RefundView(Msat(900_000), Msat(0), RefundState.OWED, failed=True, payable_sats=891, refusal=refusal)
    api.plays(GetSession, session_view(SessionState.CLOSED, refund=refund))
    shown = (await api.get()).json()["refund"]
    assert "another invoice" not in shown["failure"] and "operator" in shown["failure"]
    assert (shown["failureCode"], shown["state"]) == ("server_cannot_pay", "owed")


async def test_the_grant_is_passed_on_for_the_actor_to_judge(api: Stubbed) -> None:
    api.plays(GetSession, session_view())
    headers = bearer("actions = topup", "expires_at = 5", "name = ben")
    assert (await api.http.get(f"/sessions/{SESSION}", headers=headers)).status_code == 200
    ((session_id, command),) = api.router.asked
    assert session_id == SESSION
    assert len(set(command.grant.lineage)) == 4
    seen = structs.replace(command.grant, lineage=())
    assert seen == Grant(1, expires_at_s=5, actions=frozenset({Action.TOPUP}), spender="ben", lineage=())


async def test_an_unknown_session_with_a_good_macaroon_is_not_found(api: Stubbed) -> None:
    api.plays(GetSession, not_found("session"))
    answer = await api.get()
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")


async def test_a_macaroon_of_another_generation_is_refused_by_the_actor_as_any_bad_one(api: Stubbed) -> None:
    api.plays(GetSession, Refusal(Code.INVALID_CREDENTIAL, "not valid any more"))
    answer = await api.get()
    assert answer.status_code == 401 and "www-authenticate" in answer.headers


PATHS = [
    ("GET", ""),
    ("GET", "/ledger"),
    ("GET", "/requests/{requestId}/receipt"),
    ("POST", "/topup"),
    ("POST", "/request"),
    ("POST", "/close"),
    ("POST", "/withdraw"),
    ("PUT", "/refund-destination"),
]


@pytest.mark.parametrize(("method", "path"), PATHS)
async def test_every_path_of_a_session_wants_its_macaroon(api: Stubbed, method: str, path: str) -> None:
    where = f"/sessions/{SESSION}{path}"
    cases: list[tuple[dict[str, str], int, str]] = [
        ({}, 401, "missing_credential"),
        ({"Authorization": f"Bearer {token(session=OTHER_SESSION)}"}, 401, "invalid_credential"),
        ({"Authorization": "Bearer " + "x" * 10_000}, 401, "invalid_credential"),
        (bearer("moon = full"), 403, "caveat_violated"),
    ]
    for headers, status, code in cases:
        # A body that is wrong, too: a client without access does not learn what is wrong with it.
        answer = await api.http.request(method, where, headers=headers, content=b"{")
        assert (answer.status_code, answer.json()["code"]) == (status, code)
        assert ("www-authenticate" in answer.headers) == (status == 401)
    raw = [(b"authorization", b"Bearer \xff\x00")]
    assert (await api.http.request(method, where, headers=raw)).status_code == 401
    assert api.router.asked == []


@pytest.mark.parametrize(("method", "path"), PATHS)
async def test_an_id_that_can_t_be_a_session_s_is_not_found(api: Stubbed, method: str, path: str) -> None:
    where = f"/sessions/ses_short{path}"
    assert (await api.http.request(method, where, headers=bearer())).status_code == 404
    assert (await api.http.request(method, where)).status_code == 401


async def test_no_token_comes_near_a_log(api: Stubbed, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(0)
    api.plays(GetSession, session_view(), TransientError("down"))
    for headers in (bearer(), bearer(), bearer("moon = full"), {"Authorization": "Bearer secret-of-somebody"}):
        answer = await api.http.get(f"/sessions/{SESSION}", headers=headers)
        assert "secret-of" not in answer.text
    assert token()[:40] not in caplog.text and "secret-of" not in caplog.text


# Topping up, and keys


async def test_a_top_up_gives_an_invoice(api: Stubbed) -> None:
    api.plays(TopUp, TopUpInvoice(invoice(9, 500)))
    answer = await api.post("/topup", {"amountSats": 500})
    assert answer.status_code == 201
    assert answer.json()["topUpInvoice"]["paymentHash"] == f"{9:064x}"
    (command,) = api.router.commands(TopUp)
    assert (command.amount_sats, command.any_open, command.grant) == (500, False, Grant(1))
    assert (command.once.name, command.once.keyed) == (answer.headers["x-request-id"], False)


async def test_a_top_up_out_of_bounds_is_refused(api: Stubbed) -> None:
    answer = await api.post("/topup", {"amountSats": 99})
    assert answer.status_code == 400 and "from 100 to 100000" in answer.json()["error"]


async def test_a_top_up_before_the_deposit_shows_the_deposit(api: Stubbed) -> None:
    api.plays(TopUp, Refusal(Code.PAYMENT_REQUIRED, "pay first"))
    api.plays(GetSession, session_view(SessionState.AWAITING_PAYMENT, pending_invoices=(DEPOSIT,)))
    answer = await api.post("/topup", {"amountSats": 500})
    assert answer.status_code == 402
    assert answer.json()["depositInvoice"]["paymentHash"] == DEPOSIT.payment_hash


async def test_a_key_names_the_operation_by_its_route_and_a_digest_by_what_is_asked(api: Stubbed) -> None:
    api.plays(TopUp, TopUpInvoice(invoice(9, 500)))
    api.plays(CloseSession, session_view(SessionState.CLOSED))
    for body in ({"amountSats": 500}, {"amountSats": 500.0}, {"amountSats": 600}):
        await api.post("/topup", body, **KEY)
    await api.post("/close", **KEY)
    same, again, other, close = [command.once for _, command in api.router.asked]
    assert same == again and same.keyed
    # Written down: with other names, keys from before an update would be charged again.
    assert same.name == "krgJSdYZLMSEZL74k6PB2U7dD" and same.digest == "0e8eaf947743affb3a4d2a1790e8649e"
    assert (other.name, other.digest != same.digest) == (same.name, True)
    assert close.name != same.name


@pytest.mark.parametrize("key", ["", "with space", "x" * 256])
@pytest.mark.parametrize("path", ["", "/topup", "/request", "/close"])
async def test_a_key_that_is_none_is_refused_everywhere(api: Stubbed, path: str, key: str) -> None:
    where = f"/sessions/{SESSION}{path}" if path else "/sessions"
    answer = await api.http.post(where, json={}, headers={**bearer(), "Idempotency-Key": key})
    assert (answer.status_code, answer.json()["fields"][0]["path"]) == (400, "Idempotency-Key")


# The ledger


async def test_the_ledger_is_shown_oldest_first_with_what_applies(api: Stubbed) -> None:
    entries = (
        LedgerEntry(1, START_MS, EntryKind.DEPOSIT, Msat(1_000), Msat(1_000), payment_hash=f"{5:064x}"),
        LedgerEntry(2, START_MS + 1, EntryKind.HOLD, Msat(600), Msat(400), request_id="req_a", spender="ben"),
    )
    api.plays(GetLedger, LedgerPage(entries))
    answer = await api.get("/ledger")
    assert answer.json() == {
        "entries": [
            {
                "seq": 1,
                "at": "2027-01-15T08:00:00.000Z",
                "kind": "deposit",
                "amountMsat": 1_000,
                "balanceMsat": 1_000,
                "paymentHash": f"{5:064x}",
            },
            {
                "seq": 2,
                "at": "2027-01-15T08:00:00.001Z",
                "kind": "hold",
                "amountMsat": 600,
                "balanceMsat": 400,
                "requestId": "req_a",
                "spender": "ben",
            },
        ]
    }
    assert api.router.commands(GetLedger) == [GetLedger(0, 100, Grant(1))]


async def test_a_stretch_of_the_ledger_can_be_asked_for(api: Stubbed) -> None:
    api.plays(GetLedger, LedgerPage(()))
    assert (await api.get("/ledger?after=17&limit=1000")).json() == {"entries": []}
    assert api.router.commands(GetLedger) == [GetLedger(17, 1_000, Grant(1))]


@pytest.mark.parametrize(
    ("query", "path"),
    [
        ("limit=0", "limit"),
        ("limit=1001", "limit"),
        ("limit=", "limit"),
        ("limit=ten", "limit"),
        ("limit=1.0", "limit"),
        ("limit=1&limit=2", "limit"),
        ("after=-1", "after"),
        ("after=%D9%A3", "after"),
        (f"after={'9' * 5_000}", "after"),
        ("after=9999999999999999", "after"),
        ("offset=20", "offset"),
        ("after=1&Limit=1&x", "Limit"),
    ],
)
async def test_a_stretch_that_is_none_is_refused(api: Stubbed, query: str, path: str) -> None:
    answer = await api.get(f"/ledger?{query}")
    assert (answer.status_code, answer.json()["fields"][0]["path"]) == (400, path)
    assert api.router.asked == []


# Around it


async def test_the_first_page_shows_how_to_begin_a_session(api: Stubbed) -> None:
    page = (await api.http.get("/", headers={"Host": "pay.example:8402"})).text
    assert "curl http://pay.example:8402/sessions -H" in page and "{&quot;" not in page
    assert "/request -H" in page and "/close -H" in page and "100 to 100000 sats" in page


async def test_the_stub_node_makes_invoices_to_be_paid_out_to(api: Stubbed) -> None:
    answer = await api.http.post("/dev/stub/invoice", json={"amountSats": 250})
    assert answer.status_code == 201
    assert answer.json()["amountSats"] == 250 and answer.json()["paymentRequest"].startswith("lnbcrt")
    assert (await api.http.post("/dev/stub/invoice", json={"amountSats": 0})).status_code == 400


async def test_without_the_stub_node_there_are_no_such_invoices(api: Stubbed) -> None:
    production = api.state.settings.model_copy(update={"env": Environment.PRODUCTION})
    for front in (replace(api.state, stub_node=None), replace(api.state, settings=production)):
        async with client_of(create_app(front)) as http:
            answer = await http.post("/dev/stub/invoice", json={"amountSats": 250})
            assert (answer.status_code, answer.json()["code"]) == (404, "not_found")


async def test_operations_of_a_session_name_its_credential_in_the_document(api: Stubbed) -> None:
    document: Json = await api.document()
    secured = {
        (method.upper(), path)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
        if operation.get("security") == [{"macaroon": []}]
    }
    assert secured == {(method, "/sessions/{sessionId}" + path) for method, path in PATHS}
    assert document["components"]["securitySchemes"]["macaroon"]["scheme"] == "bearer"
