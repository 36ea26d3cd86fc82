"""Steps of tests about receipts: sessions and jobs without a host, and their receipts as the front signs them."""

from __future__ import annotations

import json
from typing import Any

from satmeter.actors.domain.receipts import GetJobReceipt, GetRequestReceipt, Receipt
from satmeter.http.receipts.routes import wire
from satmeter.http.receipts.schemas import SignedReceipt
from satmeter.http.receipts.signing import ReceiptSigner
from satmeter.http.response.json import encode
from tests.helpers.jobs import JobBench
from tests.helpers.sessions import FULL, SessionBench

SIGNER = ReceiptSigner(b"a root key of a test")


def signed(receipt: Receipt) -> dict[str, Any]:
    """The answer of GET …/receipt."""
    shown = wire(receipt, SIGNER.key_id)
    answer = encode(SignedReceipt(receipt=shown, jws=SIGNER.sign(encode(shown))))
    found: dict[str, Any] = json.loads(answer)
    return found


def of_request(bench: SessionBench, request_id: str = "req_a") -> Any:
    """Return the session's receipt, its journal searched as the store does."""
    decision = bench.send(GetRequestReceipt(request_id, FULL))
    if decision.history is None:
        return decision.reply
    asked = decision.history
    assert asked.holding is not None
    data = [event for event in reversed(bench.journal) if asked.holding.encode() in event][: asked.limit]
    return bench.behaviour.history([bench.behaviour.decode_event(event) for event in data], asked)


def of_job(bench: JobBench) -> Any:
    """Return the job's receipt."""
    return bench.send(GetJobReceipt()).reply
