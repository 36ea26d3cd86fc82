"""A work invoice commits to its price, and the price holds whatever changes afterwards."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from typer.testing import CliRunner

from satmeter.actors.adapters.stub.bolt11_signing import sign_invoice
from satmeter.actors.domain.behaviour import TakeUp, Wake
from satmeter.actors.domain.job.behaviour import JobBehaviour, JobTerms
from satmeter.actors.domain.job.state import GetJob, JobView
from satmeter.actors.domain.money import Msat
from satmeter.actors.domain.payments.intents import IssueInvoice
from satmeter.actors.domain.payments.invoices import Invoice
from satmeter.actors.domain.pricing import ModelPrice, Rates
from satmeter.actors.domain.quotes import canonical_json, digest_in, quote_digest, quoted
from satmeter.http.jobs import views
from satmeter.http.response.json import encode
from satmeter.scripts.commands import app
from tests.helpers.http.pay_pages import pay_pages
from tests.helpers.invoices import over_hash_of
from tests.helpers.jobs import JOB_TERMS, START_MS, TERMS, WORK_INVOICE, JobBench, completion, verdict

RUNNER = CliRunner()
DEARER_RATES = Rates(*(Decimal(50) for _ in range(5)))
DEARER = replace(
    JOB_TERMS,
    terms=replace(
        TERMS,
        models={"haiku": ModelPrice("haiku", DEARER_RATES), "sonnet": ModelPrice("sonnet", DEARER_RATES)},
        margin_pct=Decimal(60),
        infra_usd=Decimal("0.5"),
    ),
)
WITHOUT_ITS_MODEL = replace(
    JOB_TERMS, work_model="haiku", terms=replace(TERMS, models={"haiku": ModelPrice("haiku", DEARER_RATES)})
)


def to_order(bench: JobBench) -> IssueInvoice:
    """The order of the work's invoice."""
    bench.open()
    bench.pay_eval()
    bench.finish(verdict())
    order = bench.intent()
    assert isinstance(order, IssueInvoice)
    return order


def signed(order: IssueInvoice, memo: str | None = None) -> Invoice:
    """The invoice as a node makes it."""
    payment_hash = "ab" * 32
    payment_request = sign_invoice(
        "11" * 32,
        payment_hash=payment_hash,
        payment_secret="22" * 32,
        amount_msat=Msat.from_sats(order.amount_sats),
        memo=order.memo if memo is None else memo,
        at_s=START_MS // 1_000,
        expiry_s=order.expiry_s,
    )
    return Invoice(payment_request, payment_hash, order.amount_sats, START_MS + order.expiry_s * 1_000)


def shown(bench: JobBench) -> bytes:
    """Return the answer of GET /jobs/{jobId}."""
    view = bench.send(GetJob()).reply
    assert isinstance(view, JobView)
    return encode(views.job_status(view, pay_pages()))


def test_the_invoice_names_the_digest_of_the_very_breakdown_that_the_client_sees() -> None:
    bench = JobBench()
    order = to_order(bench)
    bench.finish(signed(order))
    breakdown = json.loads(shown(bench), parse_float=Decimal)["pricingBreakdown"]
    assert digest_in(order.memo) == quote_digest(breakdown)
    assert order.memo.startswith("Satmeter: work by sonnet, quote sha256:")


def test_the_canonical_form_is_that_of_rfc_8785() -> None:
    bench = JobBench()
    to_order(bench)
    assert bench.state.breakdown is not None
    assert canonical_json(quoted(bench.state.breakdown)) == (
        b'{"amountSats":9,"btcPriceAt":"2027-01-15T08:00:00.000Z","btcPriceSource":"coingecko",'
        b'"btcPriceUsd":"100000.00","estimatedCostUsd":"0.0061","estimatedInputTokens":300,'
        b'"estimatedOutputTokens":500,"infraCostUsd":"0.0005","marginPct":40,"model":"sonnet","modelCostUsd":"0.0056"}'
    )


@pytest.mark.parametrize(
    ("number", "text"),
    [
        ("40", "40"),
        ("40.0", "40"),
        ("4E+1", "40"),
        ("12.50", "12.5"),
        ("0", "0"),
        ("-0.0", "0"),
        ("10000", "10000"),
        ("0.000001", "0.000001"),
        ("9999.999999", "9999.999999"),
    ],
)
def test_numbers_are_written_as_ecmascript_does(number: str, text: str) -> None:
    assert canonical_json({"n": Decimal(number)}) == f'{{"n":{text}}}'.encode()


def test_texts_are_escaped_as_the_form_demands() -> None:
    assert canonical_json({"b": 'é\u20ac\n\x1f"\\/', "a": 1}) == '{"a":1,"b":"é€\\n\\u001f\\"\\\\/"}'.encode()


@pytest.mark.parametrize("value", [None, True, [1], {"a": 1}, 2**53, Decimal("NaN"), Decimal("1e400"), 1.5])
def test_what_no_breakdown_holds_has_no_canonical_form(value: Any) -> None:
    with pytest.raises(ValueError, match="texts and numbers"):
        canonical_json({"a": value})


@pytest.mark.parametrize("later", [DEARER, WITHOUT_ITS_MODEL], ids=["dearer", "without its model"])
def test_a_quote_is_charged_as_it_was_made_also_by_a_server_with_other_prices(later: JobTerms) -> None:
    same, changed = JobBench(), JobBench()
    for bench in (same, changed):
        bench.to_work_invoice()
    changed.behaviour = JobBehaviour(later)
    changed.restart()
    for bench in (same, changed):
        bench.pay_work()
        bench.finish(completion())
    assert changed.state.ledger == same.state.ledger
    assert changed.state.books == same.state.books
    # (100 tokens at $2 + 200 at $10 per million + $0.0005) x 1.4 at $100,000 for a bitcoin, of 9 sats paid.
    assert changed.state.ledger is not None
    assert (changed.state.ledger.charged_msat, changed.state.books.owed) == (Msat(3_780), Msat(5_220))


def test_an_invoice_that_has_to_be_made_anew_asks_for_the_same_and_commits_to_the_same() -> None:
    bench = JobBench()
    first = to_order(bench)
    bench.behaviour = JobBehaviour(DEARER)
    bench.restart()
    bench.send(TakeUp())
    again = bench.intent()
    assert isinstance(again, IssueInvoice)
    assert again.key != first.key
    assert (again.amount_sats, again.memo) == (first.amount_sats, first.memo)


def test_a_quote_holds_until_its_invoice_expires_and_not_beyond() -> None:
    bench = JobBench()
    bench.to_work_invoice()
    bench.now_ms = WORK_INVOICE.expires_at_ms
    bench.send(Wake())
    assert bench.state.state == "awaiting_work_payment"
    bench.pay_work()
    assert bench.state.state == "executing"


# The command


def saved(tmp_path: Path, memo: str | None = None, **changes: Any) -> Path:
    """A JobStatus in a file, its breakdown changed."""
    bench = JobBench()
    bench.finish(signed(to_order(bench), memo))
    status = json.loads(shown(bench))
    status["pricingBreakdown"] |= changes
    file = tmp_path / "job.json"
    file.write_text(json.dumps(status))
    return file


def test_a_true_price_is_confirmed(tmp_path: Path) -> None:
    result = RUNNER.invoke(app, ["receipt", "quote", str(saved(tmp_path))])
    assert result.exit_code == 0, result.stderr
    assert "9 sats" in result.stdout


def test_a_file_may_come_by_standard_input(tmp_path: Path) -> None:
    result = RUNNER.invoke(app, ["receipt", "quote", "-"], input=saved(tmp_path).read_text())
    assert result.exit_code == 0, result.stderr


@pytest.mark.parametrize(
    "changes",
    [
        {"amountSats": 8},
        {"marginPct": 41},
        {"btcPriceAt": "2027-01-15T08:00:00.001Z"},
        {"model": "haiku"},
        {"modelCostUsd": "0.00560"},
        {"more": 1},
    ],
)
def test_any_change_of_the_price_is_told(tmp_path: Path, changes: dict[str, Any]) -> None:
    result = RUNNER.invoke(app, ["receipt", "quote", str(saved(tmp_path, **changes))])
    assert result.exit_code == 1
    assert "not the one that was quoted" in result.stderr


def test_a_file_without_a_quote_is_told_from_a_false_one(tmp_path: Path) -> None:
    other = tmp_path / "other.json"
    other.write_text('{"state": "rejected"}')
    old = saved(tmp_path, memo="Satmeter: work by sonnet")
    for file, words in ((other, "not a JobStatus"), (old, "commits to no quote"), (tmp_path / "none", "can't be read")):
        result = RUNNER.invoke(app, ["receipt", "quote", str(file)])
        assert result.exit_code == 1
        assert words in result.stderr and "Traceback" not in result.stderr


def test_that_an_invoice_has_the_hash_of_its_description_alone_is_told(tmp_path: Path) -> None:
    memo = "Satmeter: work by sonnet"
    file = saved(tmp_path, memo=memo)
    status = json.loads(file.read_text())
    status["workInvoice"]["paymentRequest"] = over_hash_of(memo, status["workInvoice"]["paymentRequest"])
    file.write_text(json.dumps(status))
    result = RUNNER.invoke(app, ["receipt", "quote", str(file)])
    assert result.exit_code == 1 and "the hash of its description alone" in result.stderr
