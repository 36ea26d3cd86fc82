"""Receipts say what was charged and why, the same each time, and can be checked by who has no more than them."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import jwt
import pytest
from msgspec.structs import replace
from redis.asyncio import Redis
from typer.testing import CliRunner

from satmeter.actors.domain.behaviour import Failed, TakeUp
from satmeter.actors.domain.errors import Code, Refusal
from satmeter.actors.domain.llm.answers import Ending
from satmeter.actors.domain.llm.reported_usage import ReportedUsage
from satmeter.actors.domain.money import Msat
from satmeter.actors.domain.receipts import Receipt
from satmeter.actors.domain.session.behaviour import SessionBehaviour
from satmeter.actors.partitioning import partition_of
from satmeter.actors.ports import Append
from satmeter.http.receipts.signing import ReceiptSigner
from satmeter.scripts.commands import app
from satmeter.scripts.receipts.quote import MismatchError
from satmeter.scripts.receipts.receipt import check_digest
from tests.helpers.hosts import World
from tests.helpers.jobs import JobBench, completion, verdict
from tests.helpers.receipts import SIGNER, of_job, of_request, signed, with_reports
from tests.helpers.sessions import SESSION_ID, SESSION_TERMS, SessionBench, ask, completed, rejected
from tests.unit.actors.domain.test_quotes import DEARER

RUNNER = CliRunner()


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def answered(sats: int = 100) -> SessionBench:
    bench = SessionBench()
    bench.fund(sats)
    bench.send(ask("a"))
    bench.answer(completed(), "a")
    return bench


def done() -> JobBench:
    bench = JobBench()
    bench.to_work_invoice()
    bench.pay_work()
    bench.finish(completion())
    return bench


def test_a_requests_receipt_says_what_was_charged_for_what() -> None:
    receipt = of_request(answered())
    assert isinstance(receipt, Receipt)
    assert (receipt.request_digest, receipt.answer_digest) == (sha256("say hello"), sha256("the answer"))
    assert (receipt.charged_msat, receipt.state, receipt.session_id) == (Msat(6_860), "complete", SESSION_ID)
    # After the deposit and the hold.
    assert receipt.ledger_seq == 3


def test_a_jobs_receipt_stays_the_same_when_it_is_refunded_later() -> None:
    bench = done()
    before = signed(of_job(bench))
    assert before["receipt"]["chargedMsat"] == 3_780
    assert before["receipt"]["evaluationFeeMsat"] == 10_000
    assert before["receipt"]["requestSha256"] == sha256("say hello")
    bench.now_ms += 60_000
    bench.send(TakeUp())
    bench.restart()
    assert signed(of_job(bench)) == before


def test_the_prices_of_a_receipt_are_those_at_which_it_was_charged() -> None:
    """Also after the settings have changed; each prices stand in the journal once."""
    bench = answered(100_000)
    first = signed(of_request(bench))
    bench.behaviour = SessionBehaviour(replace(SESSION_TERMS, terms=DEARER.terms))
    for name in ("b", "c"):
        bench.send(ask(name))
        bench.answer(rejected(), name)
    bench.restart()
    bench.restart(snapshot_at=5)
    assert signed(of_request(bench)) == first
    assert [data.count(b"new_tariff") for data in bench.journal if b"request_finished" in data] == [1, 1, 0]
    assert len(bench.state.tariffs) == 2
    assert signed(of_request(bench, "req_c"))["receipt"]["charges"][0]["rates"]["input"] == "50.00"


def test_a_rejection_is_a_digest_of_its_reason() -> None:
    bench = SessionBench()
    bench.fund()
    bench.send(ask("a"))
    bench.answer(rejected(), "a")
    receipt = of_request(bench)
    assert (receipt.state, receipt.answer_digest, receipt.work_usage) == ("rejected", sha256("because"), None)
    job = JobBench()
    job.open()
    job.pay_eval()
    job.finish(verdict(accepted=False))
    told = signed(of_job(job))["receipt"]
    assert (told["state"], told["answerSha256"], told["charges"]) == ("rejected", sha256("because"), [])
    assert (told["chargedMsat"], told["evaluationFeeMsat"]) == (0, 10_000)


def test_what_was_cut_off_is_of_what_was_given() -> None:
    bench = SessionBench()
    bench.fund()
    bench.send(ask("a", stream=True))
    bench.answer(completed(ending=Ending.LEFT, text="the an"), "a")
    receipt = of_request(bench)
    assert (receipt.state, receipt.answer_digest) == ("left", sha256("the an"))


def test_a_failed_job_has_a_receipt_over_nothing() -> None:
    bench = JobBench()
    bench.open()
    bench.pay_eval()
    bench.send(Failed(bench.intent(), permanent=True))
    told = signed(of_job(bench))["receipt"]
    assert (told["state"], told["chargedMsat"], told["evaluationFeeMsat"]) == ("failed", 0, 0)
    assert "answerSha256" not in told


def refused(reply: Any) -> tuple[Code, str]:
    assert isinstance(reply, Refusal)
    return reply.code, reply.message


def test_what_was_not_charged_has_none_and_the_refusal_says_why() -> None:
    bench = answered()
    assert refused(of_request(bench, "req_other")) == (Code.NOT_FOUND, "There is no such request of this session.")
    bench.send(ask("b"))
    assert refused(of_request(bench, "req_b"))[0] is Code.WRONG_STATE
    bench.crash()
    assert "Nothing was charged" in refused(of_request(bench, "req_b"))[1]
    job = JobBench()
    job.open()
    assert refused(of_job(job))[0] is Code.WRONG_STATE


def test_a_request_that_was_taken_up_anew_under_its_id_has_the_receipt_of_its_charge() -> None:
    bench = SessionBench()
    bench.fund()
    bench.send(ask("a"))
    bench.crash()
    bench.send(ask("a"), resent=True)
    bench.answer(completed(), "a")
    assert of_request(bench).charged_msat == Msat(6_860)


def test_what_was_charged_before_receipts_were_kept_says_so() -> None:
    bench = answered()
    (index,) = [i for i, data in enumerate(bench.journal) if b"request_finished" in data]
    finished = json.loads(bench.journal[index])
    del finished["receipt"]
    bench.journal[index] = json.dumps(finished, separators=(",", ":")).encode()
    assert "before receipts were kept" in refused(of_request(bench))[1]
    job = done()
    job.job = replace(job.state, tariff=None)
    assert "before receipts were kept" in refused(of_job(job))[1]


def test_a_providers_report_is_not_taken_for_another_request() -> None:
    """Neither its id of the call nor its text finds an event, as a search for the id of a request goes."""
    bench = SessionBench()
    bench.fund()
    bench.send(ask("a"))
    report = ReportedUsage("req_x", '{"request_id":"req_x"}', ('"request_id":"req_x"',))
    bench.answer(with_reports(completed(), report, report), "a")
    assert refused(of_request(bench, "req_x"))[0] is Code.NOT_FOUND
    assert of_request(bench).work_reported == report


async def test_the_store_finds_a_request_wherever_it_stands_in_a_long_journal(redis: Redis) -> None:
    journal = World(redis).journal
    partition = partition_of(SESSION_ID)
    epoch = (await journal.claim([partition], "host"))[partition]
    events = [f'{{"seq":{i},"request_id":"req_{i // 2}"}}'.encode() for i in range(2_600)]
    await journal.append(Append(partition, epoch, SESSION_ID, 0, events))
    for number in (0, 249, 250, 1_000, 1_299):
        found = await journal.search(partition, SESSION_ID, f'"request_id":"req_{number}"', 2)
        assert list(found) == [events[2 * number + 1], events[2 * number]]
    assert await journal.search(partition, SESSION_ID, '"request_id":"req_1300"', 2) == []
    # Nothing in it is a pattern.
    assert await journal.search(partition, SESSION_ID, '"request_id":"req_.*"', 2) == []
    assert await journal.search(partition, "ses_other", "req_1", 2) == []


# Signatures


def test_a_receipt_is_a_jws_that_other_libraries_verify() -> None:
    answer = signed(of_request(answered()))
    key = jwt.PyJWK(SIGNER.jwk)
    assert jwt.decode(answer["jws"], key, algorithms=["EdDSA"]) == answer["receipt"]
    assert jwt.get_unverified_header(answer["jws"])["kid"] == SIGNER.key_id == answer["receipt"]["keyId"]


def test_the_key_depends_on_the_root_key_alone() -> None:
    assert ReceiptSigner(b"a root key of a test").sign(b"{}") == SIGNER.sign(b"{}")
    assert ReceiptSigner(b"another").key_id != SIGNER.key_id


def saved(tmp_path: Path, answer: Any) -> str:
    file = tmp_path / "receipt.json"
    file.write_text(answer if isinstance(answer, str) else json.dumps(answer))
    return str(file)


def verify(*arguments: str) -> tuple[int, str]:
    result = RUNNER.invoke(app, ["receipt", "verify", *arguments])
    assert "Traceback" not in result.stderr
    return result.exit_code, result.stdout + result.stderr


@pytest.mark.parametrize("bare", [False, True], ids=["answer", "jws"])
def test_the_command_verifies_by_a_saved_key_or_a_pinned_id(tmp_path: Path, *, bare: bool) -> None:
    answer = signed(of_request(answered()))
    file = saved(tmp_path, answer["jws"] if bare else answer)
    key = tmp_path / "satmeter.json"
    key.write_text(json.dumps({"name": "Satmeter", "keys": [SIGNER.jwk]}))
    (tmp_path / "request").write_text("say hello")
    (tmp_path / "answer").write_text("the answer")
    texts = ("--request", str(tmp_path / "request"), "--answer", str(tmp_path / "answer"))
    for trusted in (("--key", str(key)), ("--key-id", SIGNER.key_id)):
        status, said = verify(file, *trusted, *texts)
        assert status == 0, said
        assert "Charged 6860 msat" in said
    status, said = verify(file, "--key-id", SIGNER.key_id, "--answer", str(tmp_path / "request"))
    assert (status, "another answer" in said) == (1, True)


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        (
            b'{"usage": {"a": 1}, "x": {"usage": {"a": 1}}}',
            b'\n\n{"usage": {"a": 1,"cost_msat":7,"cost_usd":"0.1","balance_msat":3}, "x": {"usage": {"a": 1}}}',
        ),
        (b'{"usage": {}}', b'{"usage": {"cost_msat":7,"cost_usd":"0.1","balance_msat":3}}'),
        (
            b'event: ping\ndata: {"type": "ping"}\n\ndata: 1\n\n',
            (
                b': keep-alive\nevent: ping\ndata: {"type": "ping"}\n\nevent: ping\ndata: {"type": "ping"}\n\n'
                b"data: 1\n\n: Satmeter-Debited-Msat: 7, Satmeter-Balance-Msat: 3\n\n"
            ),
        ),
    ],
    ids=["whole", "no usage", "streamed"],
)
def test_an_answer_is_held_to_its_digest_without_what_the_server_added(given: bytes, shown: bytes) -> None:
    receipt = {"answerSha256": hashlib.sha256(given).hexdigest()}
    check_digest(receipt, "answerSha256", given, "answer")
    check_digest(receipt, "answerSha256", shown, "answer")
    with pytest.raises(MismatchError):
        check_digest(receipt, "answerSha256", shown + b"x", "answer")


def test_a_receipt_that_anybody_signed_is_not_the_servers(tmp_path: Path) -> None:
    answer = signed(of_request(answered()))
    forger = ReceiptSigner(b"a forger's key")
    forged = forger.sign(json.dumps(answer["receipt"] | {"keyId": forger.key_id}).encode())
    key = tmp_path / "satmeter.json"
    key.write_text(json.dumps(SIGNER.jwk))
    for trusted in (("--key", str(key)), ("--key-id", SIGNER.key_id)):
        status, said = verify(saved(tmp_path, forged), *trusted)
        assert (status, "signed by the key" in said) == (1, True)
    assert verify(saved(tmp_path, forged))[0] == 2


def test_a_copy_that_was_changed_beside_a_true_signature_is_told(tmp_path: Path) -> None:
    answer = signed(of_request(answered()))
    answer["receipt"]["chargedMsat"] -= 1
    status, said = verify(saved(tmp_path, answer), "--key-id", SIGNER.key_id)
    assert (status, "not what was signed" in said) == (1, True)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"chargedMsat": 6_861}, "The price is 6860 msat"),
        ({"marginPct": 41}, "The price is"),
        ({"costUsd": "0.0048"}, "The cost is"),
        ({"infraCostUsd": "0.0006"}, "The cost is"),
        ({"charges": [{"step": "work"}]}, "lacks figures"),
        ({"btcPriceUsd": "0"}, "lacks figures"),
    ],
)
def test_a_server_that_signed_a_wrong_price_is_found_out(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    receipt = signed(of_request(answered()))["receipt"] | changes
    status, said = verify(saved(tmp_path, SIGNER.sign(json.dumps(receipt).encode())), "--key-id", SIGNER.key_id)
    assert status == 1
    assert words in said


@pytest.mark.parametrize("garbage", ["", "garbage", "a.b", "a.b.c", "{}", '{"jws": 1}', "{", "é.é.é"])
def test_what_is_no_receipt_is_said_in_one_line(tmp_path: Path, garbage: str) -> None:
    status, said = verify(saved(tmp_path, garbage), "--key-id", SIGNER.key_id)
    assert status == 1
    assert said.count("\n") == 1
