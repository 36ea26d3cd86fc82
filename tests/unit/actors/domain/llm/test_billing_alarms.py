"""Services billed apart from the plain rates: held and charged where they have a price, and told of otherwise."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from satmeter.actors.domain.behaviour import Alarm
from satmeter.actors.domain.job.state import JobCompleted
from satmeter.actors.domain.llm.answers import Evaluation
from satmeter.actors.domain.money import Msat
from satmeter.actors.domain.pricing import ModelPrice, Usage
from satmeter.actors.domain.session.behaviour import SessionBehaviour
from tests.helpers.jobs import JOB_TERMS, RATES, TERMS, USAGE, JobBench, completion, verdict
from tests.helpers.relays import relay, relayed
from tests.helpers.sessions import SESSION_TERMS, SessionBench, ask, completed, rejected

US, FAST = "inference_geo_us", "speed_fast"
PRICES = {
    "sonnet": ModelPrice("sonnet", RATES, None, {US: Decimal("1.1")}),
    "haiku": ModelPrice("haiku", RATES, None, {US: Decimal("1.1")}),
}
NO_RATE, NOT_ASKED = "model_provider_bills_what_has_no_rate", "model_provider_bills_what_was_not_asked_for"


def bench_with(prices: Mapping[str, ModelPrice] = PRICES) -> SessionBench:
    """A session with 100 sats, at these prices."""
    bench = SessionBench()
    bench.behaviour = SessionBehaviour(replace(SESSION_TERMS, terms=replace(TERMS, models=prices)))
    bench.fund(100)
    return bench


def told(alarms: tuple[Alarm, ...]) -> list[tuple[str, str | int, str | int]]:
    """The alarms, each with what it is about and whose."""
    return [(alarm.event, alarm.fields["what"], alarm.fields.get("request_id", "")) for alarm in alarms]


def test_what_is_asked_for_is_held_and_charged_at_its_multiplier_and_not_told_of() -> None:
    bench = bench_with()
    bench.send(replace(relay(max_tokens=1_000, tokens=300), billed_as=(US,)))
    # 840 msat for the prompt and 14,000 for the answer, a tenth more, and 700 for infrastructure.
    assert bench.money()[1] == 924 + 15_400 + 700
    decision = bench.finish("request:ask:a", relayed(replace(USAGE, billed_as=(US,))))
    # 280 and 2,800, a tenth more.
    assert bench.money()[2] == 308 + 3_080 + 700
    assert decision.alarms == ()


def test_without_readable_figures_what_was_asked_for_is_charged() -> None:
    bench = bench_with()
    bench.send(replace(relay(max_tokens=1_000, tokens=300), billed_as=(US,)))
    bench.finish("request:ask:a", relayed(None, given=100))
    # 150 in and 100 out, as estimated.
    assert bench.money()[2] == (420 + 1_400) * 11 // 10 + 700


@pytest.mark.parametrize(
    ("billed", "msat", "expected"),
    [
        ((US,), 4_088, [(NOT_ASKED, US, "req_a")]),
        ((FAST,), 3_780, [(NO_RATE, FAST, "req_a")]),
        (("service_tier_priority",), 3_780, [(NO_RATE, "service_tier_priority", "req_a")]),
        (
            (US, FAST, "web_search_requests"),
            4_088,
            [(NO_RATE, f"{FAST}, web_search_requests", "req_a"), (NOT_ASKED, US, "req_a")],
        ),
        ((), 3_780, []),
    ],
)
def test_what_is_billed_unasked_is_told_of_and_charged_as_far_as_it_has_a_rate(
    billed: tuple[str, ...], msat: int, expected: list[tuple[str, str, str]]
) -> None:
    bench = bench_with()
    bench.send(relay(max_tokens=1_000, tokens=300))
    decision = bench.finish("request:ask:a", relayed(replace(USAGE, billed_as=billed)))
    assert bench.money()[2] == msat
    assert told(decision.alarms) == expected
    assert all(alarm.fields["model"] == "sonnet" for alarm in decision.alarms)


def test_no_more_is_charged_than_was_held_whatever_is_billed() -> None:
    bench = bench_with()
    bench.send(relay(max_tokens=200, tokens=100))
    decision = bench.finish("request:ask:a", relayed(replace(USAGE, billed_as=(US,))))
    assert bench.money()[2] == 3_780
    assert [alarm.event for alarm in decision.alarms] == ["hold_was_too_small", NOT_ASKED]


def test_a_request_of_our_own_asks_for_nothing_so_all_is_told_of() -> None:
    bench = bench_with()
    bench.send(ask("a"))
    work, judged = replace(USAGE, billed_as=(US,)), replace(USAGE, billed_as=(FAST,))
    decision = bench.answer(completed(work, judged=judged), "a")
    assert told(decision.alarms) == [(NO_RATE, FAST, "req_a"), (NOT_ASKED, US, "req_a")]
    assert [alarm.fields["model"] for alarm in decision.alarms] == ["haiku", "sonnet"]
    bench.send(ask("b"))
    assert told(bench.answer(rejected(judged), "b").alarms) == [(NO_RATE, FAST, "req_b")]


def test_a_job_s_evaluation_and_work_are_told_of_too() -> None:
    bench = JobBench(replace(JOB_TERMS, terms=replace(TERMS, models=PRICES)))
    bench.open()
    bench.pay_eval()
    judged = verdict()
    evaluation: Evaluation = replace(judged.evaluation, usage=replace(USAGE, billed_as=(FAST,)))
    assert told(bench.finish(replace(judged, evaluation=evaluation)).alarms) == [(NO_RATE, FAST, "")]
    bench = JobBench(replace(JOB_TERMS, terms=replace(TERMS, models=PRICES)))
    bench.to_work_invoice()
    bench.pay_work()
    decision = bench.finish(completion(replace(USAGE, billed_as=(US,))))
    assert told(decision.alarms) == [(NOT_ASKED, US, "")]
    (completed_job,) = decision.events
    assert isinstance(completed_job, JobCompleted) and completed_job.charged_msat == Msat(4_088)


@given(
    st.integers(0, 2_000),
    st.integers(0, 2_000),
    st.dictionaries(st.sampled_from([US, FAST]), st.decimals(1, 3, places=2)),
    st.sets(st.sampled_from([US, FAST])),
)
def test_a_hold_covers_all_that_was_asked_for(
    prompt: int, answer: int, factors: dict[str, Decimal], wanted: set[str]
) -> None:
    asked = tuple(sorted(wanted & factors.keys()))
    bench = bench_with({**PRICES, "sonnet": ModelPrice("sonnet", RATES, None, factors)})
    decision = bench.send(replace(relay(max_tokens=answer, tokens=prompt), billed_as=asked))
    if not decision.events:
        return
    held = bench.money()[1]
    decision = bench.finish("request:ask:a", relayed(Usage(prompt, min(answer, 100), billed_as=asked)))
    assert decision.alarms == () and bench.money()[2] <= held
