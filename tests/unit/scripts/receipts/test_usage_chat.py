"""`satmeter receipt verify` holds a receipt's tokens to the usage of an upstream of chat completions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from typer.testing import CliRunner

from satmeter.actors.domain.llm.answers import Ending
from satmeter.actors.domain.pricing import Usage
from satmeter.scripts.commands import app
from satmeter.scripts.receipts.quote import MismatchError
from satmeter.scripts.receipts.usage import check_answer, check_usage
from tests.helpers.anthropic_streams import sse as messages_sse
from tests.helpers.anthropic_streams import start
from tests.helpers.chat_upstream import DONE, STOP, USAGE, WHOLE_STREAM, choice, chunk, message, reported, sse
from tests.helpers.receipts import SIGNER, with_reports
from tests.helpers.relays import relayed
from tests.helpers.sessions import completed
from tests.unit.scripts.receipts.test_usage import receipt

RUNNER = CliRunner()
BILLED = Usage(18, 16)
WHOLE = json.dumps(message()).encode()
EARLY = {"prompt_tokens": 18, "completion_tokens": 1}
LEFT = sse(chunk(choice("Hel"), usage=EARLY), chunk(choice("lo")))


def of_call(body: bytes, report: Any, usage: Usage | None = BILLED, ending: Ending = Ending.COMPLETE) -> dict[str, Any]:
    """The receipt of a relayed call."""
    return receipt(replace(relayed(usage, ending=ending), body=body, reported=report), relays=True)


@pytest.mark.parametrize(
    ("body", "report", "ending", "said"),
    [
        (WHOLE, reported(USAGE, provider_id="theirs"), Ending.COMPLETE, "the provider's usage of its request theirs."),
        (sse(*WHOLE_STREAM), reported(USAGE), Ending.COMPLETE, "are those of the provider's usage."),
        (LEFT, reported(EARLY, partial=True), Ending.LEFT, "and 15 of its answer that are not in it."),
        (LEFT, reported(EARLY, partial=True), Ending.BROKEN, "and 15 of its answer that are not in it."),
    ],
    ids=["whole", "streamed", "left", "broken"],
)
def test_tokens_and_answer_are_held_to_the_usage(body: bytes, report: Any, ending: Ending, said: str) -> None:
    told = of_call(body, report, ending=ending)
    (charge,) = told["charges"]
    assert charge["provider"]["api"] == "openai" and check_usage(told)[0].endswith(said)
    check_answer(told, body)
    with pytest.raises(MismatchError, match="are not those of"):
        check_usage({**told, "charges": [{**charge, "inputTokens": charge["inputTokens"] + 1}]})
    for name, other in (
        ("usage", ["{}"]),
        ("partial", not charge["provider"].get("partial", False)),
        ("missing", True),
    ):
        changed = {**charge, "provider": {**charge["provider"], name: other}}
        with pytest.raises(MismatchError, match="not the one in the provider's answer"):
            check_answer({**told, "charges": [changed]}, body)


def test_cached_tokens_are_read_as_part_of_the_prompt() -> None:
    cached = {**USAGE, "prompt_tokens_details": {"cached_tokens": 8}}
    told = of_call(WHOLE, reported(cached), Usage(10, 16, 8))
    assert check_usage(told) == ["The tokens of the work are those of the provider's usage."]


def test_a_charge_in_place_of_a_missing_usage_is_said_to_be_one() -> None:
    body = sse(chunk(choice("Hel"), usage=EARLY), chunk(choice("lo")), STOP, DONE)
    told = of_call(body, reported(EARLY, missing=True), None)
    assert check_usage(told)[0].endswith("charged in place of counted ones: the provider's usage lacks some.")
    check_answer(told, body)


def test_a_request_and_its_evaluation_are_read_by_their_own_rules() -> None:
    counted = {"prompt_tokens": 100, "completion_tokens": 200}
    told = receipt(with_reports(completed(), judged=reported(counted), worked=reported(counted)))
    assert all("are those of the provider's usage" in said for said in check_usage(told))


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (b'{"id":"msg_1","type":"message","content":[]}', "one of the Messages API, and the upstream speaks chat"),
        (messages_sse(start()), "one of the Messages API, and the upstream speaks chat"),
        (b'{"id":"resp_1","object":"response"}', "one of the Responses API"),
        (b'event: response.created\ndata: {"type":"response.created"}\n\n', "one of the Responses API"),
        (sse(*WHOLE_STREAM[:4], DONE), "include_usage"),
        (json.dumps(message("Other.")).encode(), "The receipt is of another answer."),
        (b"words", "The receipt is of another answer."),
    ],
)
def test_what_can_not_be_checked_is_said(tmp_path: Path, given: bytes, words: str) -> None:
    told = of_call(sse(*WHOLE_STREAM), reported(USAGE))
    (tmp_path / "receipt").write_text(SIGNER.sign(json.dumps(told, default=str).encode()))
    (tmp_path / "answer").write_bytes(given)
    arguments = [str(tmp_path / "receipt"), "--key-id", SIGNER.key_id, "--answer", str(tmp_path / "answer")]
    result = RUNNER.invoke(app, ["receipt", "verify", *arguments])
    assert (result.exit_code, words in " ".join(result.output.split())) == (1, True)
