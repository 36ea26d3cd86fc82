"""The probe of LNbits against answers that the real one gives in other configurations (with the real one: contract)."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import httpx
import msgspec
import pytest

from satmeter.actors.adapters.lightning.backend import Probed
from satmeter.actors.adapters.lnbits.probe import probe
from satmeter.actors.domain.payments.bolt11 import read_invoice
from satmeter.config.settings import Settings
from tests.helpers.http.fronts import signed_invoice

HASH = "5b" * 32
SETTINGS = Settings.model_validate(
    {"LNBITS_URL": "http://127.0.0.1:1", "LNBITS_INVOICE_KEY": "invoice-key", "LNBITS_ADMIN_KEY": "admin-key"}
)
Answer = Callable[[httpx.Request], httpx.Response]


def row(amount_sats: int = 1, **more: Any) -> dict[str, Any]:
    msat = amount_sats * 1_000
    made = signed_invoice(msat, int(time.time()))
    shown = {"payment_hash": made.payment_hash, "amount": msat, "status": "pending", "bolt11": made.payment_request}
    return {**shown, **more}


class Node:
    """An LNbits whose answers to one kind of request a test may change."""

    least_msat, percent = 2_000, 1

    def __init__(self, **changed: httpx.Response) -> None:
        self.changed = changed
        self.asked: list[str] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        kind, answer = self._answer(request)
        self.asked.append(kind)
        return self.changed.get(kind, answer)

    def _answer(self, request: httpx.Request) -> tuple[str, httpx.Response]:
        admin = request.headers["X-Api-Key"] == "admin-key"
        if request.url.path.endswith("/wallet"):
            shown = {"balance": 12_345_678, **({"id": "w"} if admin else {})}
            return "admin_wallet" if admin else "wallet", httpx.Response(200, json=shown)
        if request.method == "POST":
            order = msgspec.json.decode(request.content)
            if order["out"]:
                refused = {"detail": "Bolt11 decoding failed.", "status": "failed"}
                return "pay", httpx.Response(520, json=refused)
            kind = "create" if order["amount"] == 1 else "create_large"
            return kind, httpx.Response(201, json=row(order["amount"]))
        if request.url.path.endswith("/fee-reserve"):
            amount_msat = read_invoice(request.url.params["invoice"]).amount_msat.value
            reserve = max(self.least_msat, amount_msat * self.percent // 100)
            return "reserve", httpx.Response(200, json={"fee_reserve": reserve})
        if request.url.path.endswith("/payments"):
            return "list", httpx.Response(200, json=[row(payment_hash=HASH)])
        return "admin_find" if admin else "find", httpx.Response(200, json={"paid": False, "details": row()})


async def probed(node: Node, *, may_order: bool = True, settings: Settings = SETTINGS) -> Probed:
    async with httpx.AsyncClient(transport=httpx.MockTransport(node)) as http:
        return await probe(settings, http, may_order=may_order)


async def test_what_is_well_is_proven_and_nothing_is_ordered_without_leave() -> None:
    found = await probed(Node())
    assert (found.problems, found.warnings) == ([], []) and len(found.proofs) == 3
    assert "12,345 sats" in found.proofs[1] and "test invoice" in found.proofs[2]
    node = Node()
    found = await probed(node, may_order=False)
    assert found.problems == [] and "create" not in node.asked and len(found.proofs) == 2


def reserving(least_msat: int, percent: int) -> Node:
    node = Node()
    node.least_msat, node.percent = least_msat, percent
    return node


async def test_a_reserve_beyond_ours_is_told_with_the_settings_that_cover_it() -> None:
    (warning,) = (await probed(reserving(5_000, 2))).warnings
    figures = "5 sats aside for a payout of 1 sat, and 2,000 for one of 100,000; this server 2 and 1,000"
    assert figures in warning.message
    assert warning.message.endswith("set SATMETER_ROUTING_BASE_SATS=5 and SATMETER_ROUTING_PER_MILLION=20000.")
    settings = SETTINGS.model_copy(update={"routing_base_sats": 5, "routing_per_million": 20_000})
    assert (await probed(reserving(5_000, 2), settings=settings)).warnings == []
    assert (await probed(reserving(1_000, 0))).warnings == []
    # An LNbits that does not tell it.
    assert (await probed(Node(reserve=httpx.Response(404, json={"detail": "Not Found"})))).warnings == []


async def test_a_limit_below_the_largest_deposit_is_told() -> None:
    refused = httpx.Response(520, json={"detail": "Invoice amount 100000 sats is too high.", "status": "failed"})
    found = await probed(Node(create_large=refused))
    assert found.problems == []
    (warning,) = found.warnings
    assert "no invoice over 100,000 sats" in warning.message and "too high" in warning.message
    assert "SATMETER_SESSION_MAX_SATS" in warning.message


@pytest.mark.parametrize(
    ("kind", "answer", "words"),
    [
        ("pay", httpx.Response(520, json={"detail": "Only incoming payments allowed.", "status": "failed"}), "refund"),
        ("create", httpx.Response(520, json={"detail": "Wallet backend unreachable.", "status": "failed"}), "unreach"),
        ("create", httpx.Response(502, text="<html>"), "status 502"),
        ("create", httpx.Response(201, json=row(2)), "another amount"),
        ("find", httpx.Response(404, json={"detail": "Payment does not exist."}), "does not find"),
        ("find", httpx.Response(200, json={"paid": False}), "does not find"),
        ("admin_find", httpx.Response(200, json={"paid": False}), "another wallet"),
        ("list", httpx.Response(200, text="<html>"), "rubbish"),
        ("wallet", httpx.Response(503), "status 503"),
    ],
)
async def test_what_does_not_work_is_told_of_its_address(kind: str, answer: httpx.Response, words: str) -> None:
    found = await probed(Node(**{kind: answer}))
    assert len(found.problems) == 1 and words in found.problems[0].message, found
    assert found.problems[0].variable in ("LNBITS_URL", "LNBITS_ADMIN_KEY")


async def test_a_host_s_key_that_can_spend_is_warned_of() -> None:
    found = await probed(Node(wallet=httpx.Response(200, json={"id": "w", "balance": 0})))
    assert found.problems == [] and found.warnings[0].variable == "LNBITS_INVOICE_KEY"
