"""Why a request was refused, as its log entry says it."""

from __future__ import annotations

import pytest
from starlette.exceptions import HTTPException

from satmeter.actors.domain.errors import Code, Refusal, RefusedError
from satmeter.actors.ports import TransientError
from satmeter.http.response.logged import reason_of


def refused(code: Code, **details: object) -> RefusedError:
    return RefusedError(Refusal(code, "a sentence for the client", details))


def test_a_refusal_for_want_of_money_tells_the_figures_and_no_invoice() -> None:
    error = refused(Code.INSUFFICIENT_BALANCE, requiredMsat=9, balanceMsat=5, topUpInvoice={"paymentRequest": "ln"})
    assert reason_of(error) == {"code": "insufficient_balance", "required_msat": 9, "balance_msat": 5}


def test_a_body_that_does_not_fit_is_told_by_its_fields_but_not_by_a_client_s_own_words() -> None:
    fields = [{"path": "messages.0.content", "message": "what was written"}, {"path": "tell me a story"}, {"path": ""}]
    assert reason_of(refused(Code.INVALID_REQUEST, fields=fields)) == {
        "code": "invalid_request", "fields": ["messages.0.content"]
    }  # fmt: skip


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (TransientError("the store did not answer"), {"code": "unavailable"}),
        (HTTPException(404), {}),
        (KeyError("a prompt"), {"code": "internal_error"}),
        (refused(Code.CAVEAT_VIOLATED, caveat="max_msat = 5", leftMsat=1), {"code": "caveat_violated", "left_msat": 1,
                                                                          "caveat": "max_msat = 5"}),
    ],
)  # fmt: skip
def test_other_errors_are_told_by_their_code(error: Exception, reason: dict[str, object]) -> None:
    assert reason_of(error) == reason
