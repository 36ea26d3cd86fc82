"""`satmeter receipt verify` holds a receipt's tokens to the provider's usage in it."""

from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from typer.testing import CliRunner

from satmeter.actors.domain.llm.answers import Ending
from satmeter.actors.domain.llm.catalogue import Api
from satmeter.actors.domain.llm.reported_usage import ReportedUsage
from satmeter.actors.domain.pricing import Usage
from satmeter.http.receipts.signing import ALGORITHM, TYPE
from satmeter.scripts.commands import app
from satmeter.scripts.receipts.quote import MismatchError
from satmeter.scripts.receipts.receipt import check_price, exact_json
from satmeter.scripts.receipts.usage import check_answer, check_usage
from tests.helpers.anthropic_streams import STOP, block, change, delta, sse, start
from tests.helpers.jobs import JobBench, completion
from tests.helpers.receipts import JUDGED, SIGNER, WORKED, of_job, of_request, signed, with_reports
from tests.helpers.relays import relay, relayed
from tests.helpers.sessions import SessionBench, ask, completed, rejected

RUNNER = CliRunner()


def receipt(outcome: Any = None, *, relays: bool = False) -> dict[str, Any]:
    """The signed receipt of a request with this outcome."""
    bench = SessionBench()
    bench.fund()
    bench.send(relay("a", tokens=300) if relays else ask("a"))
    bench.answer(with_reports(completed()) if outcome is None else outcome, "a")
    bench.restart()
    found: dict[str, Any] = exact_json(json.dumps(signed(of_request(bench))["receipt"]))
    return found


def test_the_charges_of_a_request_show_the_providers_usage_as_it_came() -> None:
    judged, worked = receipt()["charges"]
    assert judged["provider"] == {"requestId": "req_011judged", "usage": list(JUDGED.later)}
    assert worked["provider"] == {
        "requestId": "req_011worked",
        "firstUsage": WORKED.first,
        "usage": ['{"output_tokens":200}'],
    }
    assert check_usage(receipt()) == [
        "The tokens of the evaluation are those of the provider's usage of its request req_011judged.",
        "The tokens of the work are those of the provider's usage of its request req_011worked.",
    ]


def test_also_those_of_a_job_and_a_rejection_and_a_relayed_call() -> None:
    bench = JobBench()
    bench.to_work_invoice()
    bench.pay_work()
    bench.finish(replace(completion(), reported=WORKED))
    bench.restart()
    for told in (
        signed(of_job(bench))["receipt"],
        receipt(with_reports(rejected())),
        receipt(replace(relayed(), reported=WORKED), relays=True),
    ):
        (said,) = check_usage(told)
        assert "are those of the provider's usage of its request req_011" in said


def test_a_call_that_was_not_billed_has_no_report() -> None:
    told = receipt(replace(relayed(None, charged=False), reported=WORKED), relays=True)
    assert (told["charges"], check_usage(told)) == ([], [])


@pytest.mark.parametrize(
    ("field", "by"),
    [
        ("inputTokens", 1),
        ("inputTokens", -1),
        ("outputTokens", 1),
        ("outputTokens", -1),
        ("cacheReadTokens", 1),
        ("cacheWrite5mTokens", 1),
        ("cacheWrite1hTokens", 1),
    ],
)
@pytest.mark.parametrize("step", [0, 1])
def test_other_tokens_than_the_providers_are_found_out(field: str, by: int, step: int) -> None:
    told = receipt()
    told["charges"][step][field] += by
    with pytest.raises(MismatchError, match="are not those of the provider's usage"):
        check_usage(told)


PARTIAL = replace(WORKED, later=(), partial=True)


def test_of_an_answer_that_was_cut_off_the_figures_are_a_lower_bound() -> None:
    outcome = with_reports(completed(Usage(100, 50), ending=Ending.LEFT), worked=PARTIAL)
    told = receipt(outcome)
    assert told["charges"][1]["provider"]["partial"] is True
    assert check_usage(told)[1].endswith("and 49 of its answer that are not in it.")
    told["charges"][1]["outputTokens"] = 0
    with pytest.raises(MismatchError):
        check_usage(told)


@pytest.mark.parametrize(
    ("worked", "words"),
    [
        (ReportedUsage("req_1", cut=True), "was too large for a receipt"),
        (ReportedUsage("req_1", later=('{"prompt_tokens":9}',), api=Api.OPENAI, missing=True), "lacks some"),
        (ReportedUsage("req_1"), "does not have the figures"),
        (ReportedUsage(later=('{"input_tokens":"many"}',)), "does not have the figures"),
    ],
)
def test_what_the_provider_did_not_tell_is_said(worked: ReportedUsage, words: str) -> None:
    assert words in check_usage(receipt(with_reports(completed(), worked=worked)))[1]


def test_a_receipt_of_before_says_that_it_has_no_usage() -> None:
    told = receipt(completed())
    assert all("provider" not in charge for charge in told["charges"])
    assert [said.split(":")[0] for said in check_usage(told)] == [
        "The tokens of the evaluation are the server's word",
        "The tokens of the work are the server's word",
    ]


@pytest.mark.parametrize("charges", [None, 5, [5], [{}], [{"step": "work", "provider": {"usage": [5]}}]])
def test_what_lacks_figures_is_said_so(charges: Any) -> None:
    with pytest.raises(MismatchError, match="lacks figures"):
        check_usage({"charges": charges})


# The answer's body


WHOLE = b'{"content":[],"usage":{"input_tokens":100,"output_tokens":200}}'
STREAM = sse(
    start({"input_tokens": 100, "output_tokens": 1}), block(), delta("x"), change(usage={"output_tokens": 200}), STOP
)
OF_WHOLE = ReportedUsage("req_1", later=('{"input_tokens":100,"output_tokens":200}',))
OF_STREAM = ReportedUsage("req_1", '{"input_tokens": 100, "output_tokens": 1}', ('{"output_tokens": 200}',))


CHAT = '{"prompt_tokens":100,"completion_tokens":200}'
OF_CHAT = ReportedUsage("req_1", later=(CHAT,), api=Api.OPENAI)
CHAT_WHOLE = f'{{"choices":[{{"message":{{"content":"x"}},"finish_reason":"stop"}}],"usage":{CHAT}}}'.encode()
CHAT_STREAM = (
    b'data: {"choices":[{"index":0,"delta":{"content":"x"},"finish_reason":"stop"}]}\n\n'
    b'data: {"choices":[],"usage":' + CHAT.encode() + b"}\n\ndata: [DONE]\n\n"
)


@pytest.mark.parametrize(
    ("body", "reported"),
    [(WHOLE, OF_WHOLE), (STREAM, OF_STREAM), (CHAT_WHOLE, OF_CHAT), (CHAT_STREAM, OF_CHAT)],
    ids=["whole", "streamed", "chat", "streamed chat"],
)
def test_the_usage_is_the_one_in_the_providers_answer(body: bytes, reported: ReportedUsage) -> None:
    told = receipt(replace(relayed(), body=body, reported=reported), relays=True)
    assert told["answerSha256"] == hashlib.sha256(body).hexdigest()
    check_answer(told, body)
    assert "are those of the provider's usage of its request req_1." in check_usage(told)[0]
    provider = told["charges"][0]["provider"]
    for name, other in (
        ("usage", ['{"input_tokens":100,"output_tokens":201}']),
        ("firstUsage", "{}"),
        ("partial", True),
    ):
        with pytest.raises(MismatchError, match="not the one in the provider's answer"):
            check_answer({**told, "charges": [{**told["charges"][0], "provider": {**provider, name: other}}]}, body)


def test_text_that_was_asked_for_is_not_read_as_an_answer_of_the_provider() -> None:
    check_answer(receipt(with_reports(completed(text=WHOLE.decode()))), WHOLE)


def test_the_command_says_whose_figures_they_are(tmp_path: Path) -> None:
    told = receipt(replace(relayed(), body=WHOLE, reported=replace(OF_WHOLE, provider_id=None)), relays=True)
    check_price(told)

    def run(changed: dict[str, Any], body: bytes = WHOLE) -> tuple[int, str]:
        (tmp_path / "receipt").write_text(SIGNER.sign(json.dumps(changed, default=str).encode()))
        (tmp_path / "answer").write_bytes(body)
        arguments = [str(tmp_path / "receipt"), "--key-id", SIGNER.key_id, "--answer", str(tmp_path / "answer")]
        result = RUNNER.invoke(app, ["receipt", "verify", *arguments])
        return result.exit_code, result.output

    status, said = run(told)
    assert (status, "The tokens of the work are those of the provider's usage." in said) == (0, True)
    usage = OF_WHOLE.later[0]
    status, said = run({**told, "charges": [{**told["charges"][0], "provider": {"usage": [f"{usage} "]}}]})
    assert (status, "not the one in the provider's answer" in said) == (1, True)
    moved = {"requestId": "\x1b[2J", "usage": [usage]}
    assert "\x1b" not in run({**told, "charges": [{**told["charges"][0], "provider": moved}]})[1]


def test_nothing_in_a_receipt_moves_the_cursor_or_adds_a_line(tmp_path: Path) -> None:
    told = receipt()
    bad, charge = "\x1b]0;x\x07\x9b2J\nSigned by me.", told["charges"][0]

    def run(jws: str, *trusted: str) -> str:
        (tmp_path / "receipt").write_text(jws)
        result = RUNNER.invoke(app, ["receipt", "verify", str(tmp_path / "receipt"), *trusted])
        assert result.exception is None or isinstance(result.exception, SystemExit)
        return result.output

    def signing(**changed: Any) -> str:
        jws = SIGNER.sign(json.dumps({**told, **changed}, default=str).encode())
        return run(jws, "--key-id", SIGNER.key_id)

    head = base64.urlsafe_b64encode(json.dumps({"alg": ALGORITHM, "typ": TYPE, "kid": bad}).encode()).decode()
    said = [
        run(f"{head.rstrip('=')}.e30.e30", "--key-id", SIGNER.key_id),
        signing(costUsd=f"1{bad}"),
        signing(costUsd="7", x=bad),
    ]
    said += [signing(state=bad), signing(at=bad), signing(requestId=bad), signing(state=None)]
    said += [signing(charges=[{**charge, "step": bad}, *told["charges"][1:]])]
    for text in said:
        assert text and not any(c in text for c in "\x1b\x07\x9b"), repr(text)
        assert "\nSigned by me." not in text
