"""A session's webhook is told of each limit of a credential when 80 % of it are spent, once in each window."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from satmeter.actors.domain.behaviour import Done, Wake
from satmeter.actors.domain.credentials.periods import Period
from satmeter.actors.domain.money import Msat
from satmeter.actors.domain.session.messages import OpenSession
from satmeter.actors.domain.webhooks import Notify, Webhook
from tests.helpers.jobs import START_MS, invoice
from tests.helpers.sessions import SESSION_ID, SessionBench, ask, close, completed, grant, rejected

COST = 3_080 + 3_780
HOUR_MS = 3_600_000
HOOK = Webhook("https://example.org/hook", Msat(1_000))
# Four of five requests are 80 % of it.
FIVE = 5 * COST


def session(webhook: Webhook | None = HOOK) -> SessionBench:
    """Told nothing yet; it is a whole hour."""
    bench = SessionBench()
    (order,) = bench.send(OpenSession(1_000, "client", webhook)).intents
    bench.send(Done(order, invoice(1, 1_000)))
    bench.pay(invoice(1, 1_000))
    return bench


def spends(bench: SessionBench, names: str, by: Any) -> None:
    for name in names:
        bench.send(ask(name, by=by))
        bench.answer(completed(), name)


def notices(bench: SessionBench) -> list[Notify]:
    return [intent for intent in bench.running.values() if isinstance(intent, Notify)]


def told(bench: SessionBench) -> list[dict[str, Any]]:
    return [msgspec.json.decode(notify.body) for notify in notices(bench)]


def test_a_limit_on_all_that_is_spent_is_told_of_once() -> None:
    bench, by = session(), grant(("c", FIVE), spender="crew/cook")
    spends(bench, "abc", by)
    # What is on hold is not spent.
    bench.send(ask("d", by=by))
    assert told(bench) == []
    bench.answer(completed(), "d")
    assert told(bench) == [
        {
            "type": "session.limit_nearly_spent",
            "timestamp": "2027-01-15T08:00:00.000Z",
            "data": {
                "sessionId": SESSION_ID,
                "caveat": f"max_msat = {FIVE}",
                "spender": "crew/cook",
                "spentMsat": 4 * COST,
                "limitMsat": FIVE,
            },
        }
    ]
    bench.finish(notices(bench)[0].key, True)
    spends(bench, "e", by)
    assert told(bench) == []


def test_a_budget_is_told_of_once_in_each_window() -> None:
    bench, by = session(), grant(("c", FIVE, Period.HOUR))
    for hour, names in enumerate(("abcde", "fghij", "klmno")):
        bench.now_ms = START_MS + hour * HOUR_MS
        spends(bench, names, by)
        (notify,) = notices(bench)
        assert told(bench)[0]["data"] == {
            "sessionId": SESSION_ID,
            "caveat": f"max_msat_per = {FIVE}/hour",
            "spentMsat": 4 * COST,
            "limitMsat": FIVE,
            "renewsAt": f"2027-01-15T{9 + hour:02}:00:00.000Z",
        }
        bench.finish(notify.key, True)


@pytest.mark.parametrize(("limit", "count"), [(FIVE, 1), (FIVE + 1, 0), (4 * COST, 1)])
def test_it_is_told_at_80_percent_to_the_millisatoshi(limit: int, count: int) -> None:
    bench = session()
    spends(bench, "abcd", grant(("c", limit)))
    assert len(told(bench)) == count


def test_every_limit_of_the_credential_is_told_of_and_those_above_with_all_beneath() -> None:
    bench = session()
    above = ("p", FIVE, Period.WEEK)
    one, other = grant(above, ("1", 2 * COST), spender="one"), grant(above, ("2", FIVE, Period.HOUR), spender="two")
    spends(bench, "ab", one)
    spends(bench, "cd", other)
    assert [(each["data"]["caveat"], each["data"]["spender"]) for each in told(bench)] == [
        (f"max_msat = {2 * COST}", "one"),
        (f"max_msat_per = {FIVE}/week", "two"),
    ]


def test_one_request_can_reach_several_limits() -> None:
    bench = session()
    spends(bench, "a", grant(("w", COST + 2, Period.WEEK), ("d", COST + 1, Period.DAY), ("t", COST)))
    assert [each["data"]["limitMsat"] for each in told(bench)] == [COST + 2, COST + 1, COST]
    assert len({notify.webhook_id for notify in notices(bench)}) == 3


def test_a_window_that_is_over_is_not_told_of() -> None:
    bench, by = session(), grant(("c", COST, Period.HOUR))
    bench.send(ask("a", by=by))
    bench.now_ms += HOUR_MS
    bench.answer(completed(), "a")
    assert told(bench) == []
    bench.send(ask("b", by=by))
    bench.answer(completed(), "b")
    assert len(told(bench)) == 1


def test_a_request_of_the_window_before_does_not_count_in_the_present_one() -> None:
    bench, by = session(), grant(("c", FIVE, Period.HOUR))
    bench.send(ask("z", by=by))
    bench.now_ms += HOUR_MS
    spends(bench, "abc", by)
    bench.answer(completed(), "z")
    assert told(bench) == []
    spends(bench, "d", by)
    assert len(told(bench)) == 1


def test_it_is_told_of_at_most_once_through_crashes_wherever_the_snapshot_is() -> None:
    bench, by = session(), grant(("c", FIVE, Period.DAY))
    spends(bench, "abcd", by)
    (first,) = notices(bench)
    for snapshot_at in range(0, len(bench.journal), 2):
        bench.restart(snapshot_at)
    bench.crash()
    assert notices(bench) == [first]
    bench.finish(first.key, True)
    bench.crash(len(bench.journal))
    spends(bench, "e", by)
    assert notices(bench) == []


def test_a_low_balance_is_told_although_a_limit_waits_to_be_told() -> None:
    bench = session(Webhook(HOOK.url, Msat(999_000)))
    spends(bench, "a", grant(("c", COST)))
    assert [each["type"] for each in told(bench)] == ["session.low_balance", "session.limit_nearly_spent"]
    for notify in notices(bench):
        bench.fail(notify.key)
    bench.now_ms += 5_000
    assert len(bench.send(Wake()).intents) == 2


def test_without_a_webhook_after_its_end_and_for_nothing_spent_nothing_is_told() -> None:
    bench = session(None)
    spends(bench, "a", grant(("c", COST)))
    assert told(bench) == []
    bench = session()
    bench.send(ask("a", by=grant(("c", COST))))
    bench.send(close())
    bench.answer(completed(), "a")
    assert told(bench) == []
    bench = session()
    bench.send(ask("a", by=grant(("c", COST))))
    bench.fail("request:ask:a")
    bench.send(ask("b", by=grant(("c", COST))))
    bench.answer(rejected(), "b")
    assert told(bench) == []


def test_while_a_receiver_is_away_only_so_many_limits_wait() -> None:
    bench = session()
    for number in range(70):
        name = f"n{number}"
        bench.send(ask(name, by=grant((name, COST))))
        bench.answer(completed(), name)
        for notify in notices(bench):
            bench.fail(notify.key)
    assert bench.state.outbox is not None and len(bench.state.outbox.notices) == 64
