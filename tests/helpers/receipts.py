"""Steps of tests about receipts: sessions and jobs without a host, and their receipts as the front signs them."""

from __future__ import annotations

import json
from typing import Any

from msgspec.structs import replace

from satmeter.actors.domain.llm.answers import RequestOutcome
from satmeter.actors.domain.llm.reported_usage import ReportedUsage
from satmeter.actors.domain.receipts import GetJobReceipt, GetRequestReceipt, Receipt
from satmeter.http.receipts.routes import wire
from satmeter.http.receipts.schemas import SignedReceipt
from satmeter.http.receipts.signing import ReceiptSigner
from satmeter.http.response.json import encode
from tests.helpers.jobs import JobBench
from tests.helpers.sessions import FULL, SessionBench

SIGNER = ReceiptSigner(b"a root key of a test")
# What a provider says of `USAGE`, whole and in a stream.
JUDGED = ReportedUsage("req_011judged", later=('{ "input_tokens": 100,\n"output_tokens": 200 }',))
WORKED = ReportedUsage(
    "req_011worked", '{"input_tokens":100,"output_tokens":1,"service_tier":"standard"}', ('{"output_tokens":200}',)
)


def with_reports(outcome: RequestOutcome, judged: ReportedUsage = JUDGED, worked: ReportedUsage = WORKED) -> Any:
    """The outcome with the provider's reports of its calls."""
    evaluation = outcome.evaluation and replace(outcome.evaluation, reported=judged)
    completion = outcome.completion and replace(outcome.completion, reported=worked)
    return replace(outcome, evaluation=evaluation, completion=completion)


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
