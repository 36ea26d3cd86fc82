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
from satmeter.config.settings import Settings
from tests.helpers.http.fronts import signed_invoice

HASH = "5b" * 32
SETTINGS = Settings.model_validate(
    {"LNBITS_URL": "http://127.0.0.1:1", "LNBITS_INVOICE_KEY": "invoice-key", "LNBITS_ADMIN_KEY": "admin-key"}
)
Answer = Callable[[httpx.Request], httpx.Response]


def row(**more: Any) -> dict[str, Any]:
    made = signed_invoice(1_000, int(time.time()))
    shown = {"payment_hash": made.payment_hash, "amount": 1_000, "status": "pending", "bolt11": made.payment_request}
    return {**shown, **more}


class Node:
    """An LNbits whose answers to one kind of request a test may change."""

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
            return "create", httpx.Response(201, json=row())
        if request.url.path.endswith("/payments"):
            return "list", httpx.Response(200, json=[row(payment_hash=HASH)])
        return "admin_find" if admin else "find", httpx.Response(200, json={"paid": False, "details": row()})


async def probed(node: Node, *, may_order: bool = True) -> Probed:
    async with httpx.AsyncClient(transport=httpx.MockTransport(node)) as http:
        return await probe(SETTINGS, http, may_order=may_order)


async def test_what_is_well_is_proven_and_nothing_is_ordered_without_leave() -> None:
    found = await probed(Node())
    assert (found.problems, found.warnings) == ([], []) and len(found.proofs) == 3
    assert "12,345 sats" in found.proofs[1] and "test invoice" in found.proofs[2]
    node = Node()
    found = await probed(node, may_order=False)
    assert found.problems == [] and "create" not in node.asked and len(found.proofs) == 2


@pytest.mark.parametrize(
    ("kind", "answer", "words"),
    [
        ("pay", httpx.Response(520, json={"detail": "Only incoming payments allowed.", "status": "failed"}), "refund"),
        ("create", httpx.Response(520, json={"detail": "Wallet backend unreachable.", "status": "failed"}), "unreach"),
        ("create", httpx.Response(502, text="<html>"), "status 502"),
        ("create", httpx.Response(201, json=row(amount=2_000)), "another amount"),
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
