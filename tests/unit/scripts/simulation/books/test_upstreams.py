"""The simulator's books of upstreams: a second bill for one call, and a charge that fits none, are told."""

from __future__ import annotations

from typing import Any

import pytest

from satmeter.scripts.simulation.books.sessions import BrokenError
from satmeter.scripts.simulation.books.upstreams import UpstreamBook, UpstreamCall

SES, LABEL = "ses_0", "ses_0/k1"
# A token read costs 2.8 msat, one written 14, and work 700 on top.
JUDGED, WORKED = (100, 20), (60, 45)
JUDGE_MSAT, WORK_MSAT = 560, 168 + 630 + 700


class Effect:
    """One attempt of the program's."""


def taken(book: UpstreamBook, work: bool = True, told: bool = True, upstream: str = "first") -> UpstreamCall:
    """A call that came to its end."""
    effect = Effect()
    book.asked(effect, LABEL, work, left=False)
    call = book.take(effect, upstream, LABEL, work)
    call.billed, call.told = (WORKED if work else JUDGED), told
    return call


def report(call: UpstreamCall | None, upstream: str = "first") -> dict[str, Any] | None:
    return None if call is None else {"provider_id": call.call_id, "upstream": upstream}


def finished(
    msat: int, judged: UpstreamCall | None, worked: UpstreamCall | None, ending: str = "complete", **changes: Any
) -> dict[str, Any]:
    usage = {"input_tokens": 1}
    return {
        "name": "k1",
        "ending": ending,
        "debit_msat": msat,
        "released_msat": 100_000 - msat,
        "evaluation_usage": None if judged is None else usage,
        "work_usage": None if worked is None else usage,
        "receipt": {"evaluation_reported": report(judged), "work_reported": report(worked), **changes},
    }


def test_a_call_is_taken_once_in_one_attempt() -> None:
    book, effect = UpstreamBook(None), Effect()
    for work in (False, True):
        book.asked(effect, LABEL, work, left=False)
        book.asked(effect, LABEL, work, left=False)
        book.take(effect, "first", LABEL, work)
        with pytest.raises(BrokenError, match="and may bill it"):
            book.asked(effect, LABEL, work, left=False)
    book.asked(Effect(), LABEL, True, left=False)
    with pytest.raises(BrokenError, match="a client that has left"):
        book.asked(Effect(), LABEL, True, left=True)


def test_what_is_charged_is_what_the_upstreams_bill() -> None:
    book = UpstreamBook(None)
    judged, worked = taken(book, work=False), taken(book)
    book.request(SES, finished(JUDGE_MSAT + WORK_MSAT, judged, worked))
    book.request(SES, finished(JUDGE_MSAT, judged, None, "rejected"))
    for msat in (JUDGE_MSAT + WORK_MSAT - 1, JUDGE_MSAT + WORK_MSAT + 1):
        with pytest.raises(BrokenError, match=f"is charged {msat} msat"):
            book.request(SES, finished(msat, judged, worked))


@pytest.mark.parametrize(
    ("rule", "least", "most"), [(None, 0, 90_000), ("count", WORK_MSAT, 90_000), ("nothing", 0, 0)]
)
def test_a_call_without_a_usage_is_charged_by_the_rule_of_its_model(rule: str | None, least: int, most: int) -> None:
    book = UpstreamBook(rule)
    worked = taken(book, told=False)
    for msat in (least, most):
        book.request(SES, finished(msat, None, worked))
    if least:
        with pytest.raises(BrokenError, match="for bills of"):
            book.request(SES, finished(least - 1, None, worked))
    if not most:
        with pytest.raises(BrokenError, match="is charged 1 msat"):
            book.request(SES, finished(1, None, worked))
    assert book.may_be_free(finished(0, None, worked)) is (rule == "nothing")


@pytest.mark.parametrize("ending", ["left", "broken"])
def test_what_ended_midway_costs_its_prompt_at_least_where_that_was_counted(ending: str) -> None:
    book = UpstreamBook(None)
    worked = taken(book, told=False)
    book.request(SES, finished(0, None, worked, ending))
    worked.prompt_told = True
    book.request(SES, finished(168 + 700, None, worked, ending))
    with pytest.raises(BrokenError, match="for bills of 868 msat"):
        book.request(SES, finished(867, None, worked, ending))


def test_a_receipt_names_a_call_of_its_own_request_and_the_upstream_that_took_it() -> None:
    book = UpstreamBook(None)
    worked = taken(book)
    for told in ({"provider_id": "call-9", "upstream": "first"}, report(worked, "second")):
        with pytest.raises(BrokenError, match=r"no upstream has taken|counts as second's"):
            book.request(SES, finished(WORK_MSAT, None, worked, work_reported=told))
    with pytest.raises(BrokenError, match="is charged to ses_1/k1"):
        book.request("ses_1", finished(WORK_MSAT, None, worked))
    with pytest.raises(BrokenError, match="a call that no upstream has taken"):
        book.request(SES, finished(WORK_MSAT, None, worked, work_reported=None))


def test_a_job_pays_the_bill_of_its_work_up_to_what_it_paid_and_its_evaluation_has_an_upstream_s_figures() -> None:
    book, effect = UpstreamBook(None), Effect()
    judged, call = (book.take(effect, "first", "job_1", work) for work in (False, True))
    judged.billed, call.billed, judged.told, call.told = JUDGED, WORKED, True, True
    book.evaluation("job_1", {"input_tokens": 100, "output_tokens": 20})
    with pytest.raises(BrokenError, match="no upstream bills the evaluation"):
        book.evaluation("job_1", {"input_tokens": 100, "output_tokens": 21})
    book.work("job_1", {"charged_msat": WORK_MSAT, "reported": report(call)}, 9_000)
    book.work("job_1", {"charged_msat": 1_000, "reported": report(call)}, 1_000)
    for msat, reported in ((WORK_MSAT - 1, report(call)), (WORK_MSAT, None)):
        with pytest.raises(BrokenError):
            book.work("job_1", {"charged_msat": msat, "reported": reported}, 9_000)
