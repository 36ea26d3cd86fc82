"""Refunds of a session to the destination that its client named: begun by itself, paid at most once, tried again."""

from __future__ import annotations

import msgspec
import pytest
from msgspec.structs import replace

from satmeter.actors.domain.behaviour import Decision, Done, Wake
from satmeter.actors.domain.credentials.caveats import Action, Grant
from satmeter.actors.domain.errors import Code
from satmeter.actors.domain.money import Msat
from satmeter.actors.domain.payments.intents import LookUpPayout, ResolveRefund, SendPayout, Unresolved
from satmeter.actors.domain.payments.payouts import PayoutRefusal, PayoutReport, PayoutStatus, PayoutTarget
from satmeter.actors.domain.payments.refund_flow import RefundDestinationNamed, RefundTryFailed
from satmeter.actors.domain.payments.standing_refund import NAMINGS_MAX, PATIENCE_MS
from satmeter.actors.domain.session.messages import NameRefundDestination, OpenSession, SessionView
from satmeter.actors.domain.session.state import SessionExpired
from satmeter.actors.domain.webhooks import Notify, Webhook
from tests.helpers.sessions import (
    ABSENT_MS,
    DAY_MS,
    DEPOSIT,
    FULL,
    SessionBench,
    ask,
    close,
    completed,
    grant,
    refusal_of,
    target,
)

TO = "alice@example.org"
OTHER = "bob@example.org"
MINUTE_MS = 60_000
PAID, FAILED = PayoutReport(PayoutStatus.PAID), PayoutReport(PayoutStatus.FAILED)
AWAY = Unresolved("unreachable")


def closed(sats: int = 100, webhook: Webhook | None = None) -> SessionBench:
    """A session that was closed without an invoice, with a destination."""
    bench = SessionBench()
    bench.fund(sats, TO, webhook)
    bench.finish("release", None)
    bench.send(close())
    return bench


def trying(bench: SessionBench) -> ResolveRefund:
    """The try that is under way."""
    (intent,) = (intent for intent in bench.running.values() if isinstance(intent, ResolveRefund))
    return intent


def running(bench: SessionBench, kind: type) -> list[str]:
    """The keys of what is under way, of one kind."""
    return [key for key, intent in bench.running.items() if isinstance(intent, kind)]


def resolve(bench: SessionBench, answer: PayoutTarget | Unresolved) -> Decision:
    """The destination answers."""
    return bench.finish(trying(bench).key, answer)


def pay(bench: SessionBench, report: PayoutReport = PAID) -> Decision:
    """The node ends the payout, by its look-up where it failed."""
    (key,) = running(bench, SendPayout)
    decision = bench.finish(key, report)
    if report.status is PayoutStatus.PAID:
        return decision
    (key,) = running(bench, LookUpPayout)
    return bench.finish(key, report)


def name(destination: str, by: Grant = FULL) -> NameRefundDestination:
    """The naming of a destination."""
    return NameRefundDestination(destination, by)


def due(bench: SessionBench) -> int | None:
    """Return the time at which the session must be woken."""
    return bench.behaviour.due_ms(bench.state)


def test_a_closed_session_pays_its_rest_to_its_destination() -> None:
    bench = closed()
    assert trying(bench) == ResolveRefund("refund#1.0.0", TO, Msat.from_sats(98))
    resolve(bench, target(7, 98))
    pay(bench)
    assert bench.money() == (0, 0, 0, 2_000, 98_000)
    assert bench.running == {} and due(bench) is None
    assert bench.behaviour.done(bench.state)


def test_an_expired_session_pays_its_rest_to_its_destination() -> None:
    bench = SessionBench()
    bench.fund(100, TO)
    bench.now_ms += DAY_MS
    (event,) = bench.send(Wake()).events
    assert isinstance(event, SessionExpired)
    resolve(bench, target(7, 98))
    pay(bench)
    assert bench.view().refund.paid_msat == Msat(98_000)


def test_what_a_route_did_not_cost_follows_in_a_second_payment() -> None:
    bench = closed(1_000)
    resolve(bench, target(7, trying(bench).amount_msat.whole_sats))
    pay(bench)
    assert trying(bench) == ResolveRefund("refund#1.1.0", TO, Msat.from_sats(8))
    resolve(bench, target(8, 8))
    pay(bench)
    assert bench.money() == (0, 0, 0, 2_000, 998_000) and bench.running == {}


def test_nothing_is_tried_before_the_end_nor_while_a_request_is_under_way() -> None:
    bench = SessionBench()
    bench.fund(1_000, TO)
    bench.send(ask("a"))
    assert running(bench, ResolveRefund) == []
    bench.send(close())
    assert running(bench, ResolveRefund) == []
    bench.answer(completed(), "a")
    assert trying(bench).amount_msat == Msat.from_sats(983)


def test_an_unpaid_or_nearly_empty_session_tries_nothing() -> None:
    unpaid = SessionBench()
    unpaid.open(refund_to=TO)
    unpaid.send(close())
    dust = SessionBench()
    dust.open(refund_to=TO)
    dust.pay(DEPOSIT, 2_999)
    dust.send(close())
    for bench in (unpaid, dust):
        assert running(bench, ResolveRefund) == []
    assert dust.behaviour.done(replace(dust.state, invoices={}))


def test_a_late_payment_is_paid_on_to_the_destination() -> None:
    bench = SessionBench()
    bench.open(refund_to=TO)
    bench.send(close())
    bench.pay()
    assert trying(bench).amount_msat == Msat.from_sats(98)


def test_a_failed_try_is_made_again_with_growing_pauses_also_by_the_next_host() -> None:
    bench = closed()
    (event,) = resolve(bench, AWAY).events
    assert isinstance(event, RefundTryFailed)
    assert (event.error, event.next_ms) == ("unreachable", bench.now_ms + MINUTE_MS)
    assert bench.running == {} and due(bench) == event.next_ms
    bench.crash()
    assert bench.running == {}
    bench.now_ms += MINUTE_MS
    bench.send(Wake())
    (again,) = resolve(bench, AWAY).events
    assert isinstance(again, RefundTryFailed) and again.next_ms == bench.now_ms + 2 * MINUTE_MS
    bench.now_ms += 2 * MINUTE_MS
    bench.crash(snapshot_at=4)
    resolve(bench, target(7, 98))
    pay(bench)
    assert bench.view().refund.paid_msat == Msat(98_000)


def test_a_host_that_takes_an_expired_session_up_asks_only_once_it_has_ended() -> None:
    bench = SessionBench()
    bench.fund(100, TO)
    bench.now_ms += DAY_MS
    bench.crash()
    assert running(bench, ResolveRefund) == []
    bench.send(Wake())
    assert trying(bench).amount_msat == Msat.from_sats(98)


def test_a_host_that_dies_while_it_asks_leaves_the_try_to_the_next_one() -> None:
    bench = closed()
    asked = trying(bench)
    # Another host finds it due at once.
    assert due(bench) == 0
    bench.crash()
    assert trying(bench) == asked


def test_a_payout_whose_host_dies_is_looked_up_and_no_invoice_is_asked_for_meanwhile() -> None:
    bench = closed()
    resolve(bench, target(7, 98))
    bench.crash()
    (key,) = running(bench, LookUpPayout)
    assert running(bench, ResolveRefund) == running(bench, SendPayout) == []
    bench.now_ms += 2 * DAY_MS
    bench.send(Wake())
    assert running(bench, ResolveRefund) == []
    bench.finish(key, PAID)
    assert bench.money()[3:] == (2_000, 98_000)


def test_a_payout_that_failed_for_certain_is_tried_again_with_a_new_invoice() -> None:
    bench = closed()
    resolve(bench, target(7, 98))
    _failed, event = pay(bench, FAILED).events
    assert isinstance(event, RefundTryFailed)
    assert (event.error, event.next_ms) == ("payment_failed", bench.now_ms + MINUTE_MS)
    bench.now_ms += MINUTE_MS
    bench.send(Wake())
    # The invoice of before is not paid a second time.
    (event,) = resolve(bench, target(7, 98)).events
    assert isinstance(event, RefundTryFailed) and event.error == "used_invoice"
    bench.now_ms += 2 * MINUTE_MS
    bench.send(Wake())
    resolve(bench, target(8, 98))
    pay(bench)
    assert bench.view().refund.paid_msat == Msat(98_000)


def test_a_payout_that_the_node_would_not_try_is_the_server_s_fault() -> None:
    bench = closed()
    resolve(bench, target(7, 98))
    (key,) = running(bench, SendPayout)
    _, event = bench.finish(key, PayoutReport(PayoutStatus.FAILED, refusal=PayoutRefusal.KEY)).events
    assert isinstance(event, RefundTryFailed) and event.error == "server_cannot_pay"
    bench.now_ms += MINUTE_MS
    bench.send(Wake())
    resolve(bench, target(7, 98))
    pay(bench)
    assert bench.view().refund.paid_msat == Msat(98_000)


@pytest.mark.parametrize(
    ("given", "error"),
    [(target(7, 97), "wrong_amount"), (target(7, 99), "wrong_amount"), (target(7, 98, "bc"), "wrong_network")],
)
def test_an_invoice_over_another_amount_or_for_another_network_is_not_paid(given: PayoutTarget, error: str) -> None:
    bench = closed()
    (event,) = resolve(bench, given).events
    assert isinstance(event, RefundTryFailed) and event.error == error
    assert running(bench, SendPayout) == []


def test_an_answer_that_comes_late_begins_no_second_payout() -> None:
    bench = closed()
    late = trying(bench)
    bench.send(close(target(5, 50), "by hand"))
    assert bench.send(Done(late, target(7, 98))).events == ()
    (key,) = running(bench, SendPayout)
    bench.finish(key, PAID)
    # It is for more than is owed by now, and belongs to a try of before.
    assert bench.send(Done(late, target(7, 98))).events == ()
    resolve(bench, target(8, trying(bench).amount_msat.whole_sats))
    pay(bench)
    assert bench.money()[3:] == (2_000, 98_000)


def test_an_invoice_by_hand_waits_for_the_payout_under_way() -> None:
    bench = closed()
    resolve(bench, target(7, 98))
    assert refusal_of(bench.send(close(target(8, 50), "again"))).code is Code.REFUND_PENDING
    pay(bench)


def test_a_destination_named_while_a_payout_is_under_way_gets_only_the_next_one() -> None:
    bench = closed(1_000)
    resolve(bench, target(7, trying(bench).amount_msat.whole_sats))
    bench.send(name(OTHER))
    pay(bench)
    assert bench.running == {}
    bench.now_ms += MINUTE_MS
    bench.send(Wake())
    assert trying(bench).destination == OTHER


def test_an_answer_of_the_destination_before_means_nothing() -> None:
    bench = closed()
    late = trying(bench)
    bench.send(name(OTHER))
    assert bench.send(Done(late, target(7, 98))).events == ()
    assert running(bench, SendPayout) == []


def test_naming_the_same_destination_again_writes_nothing_until_a_try_has_failed() -> None:
    bench = closed()
    assert bench.send(name(TO)).events == ()
    resolve(bench, Unresolved("refused", permanent=True))
    (event,) = bench.send(name(TO)).events
    assert isinstance(event, RefundDestinationNamed) and event.next_ms == bench.now_ms + MINUTE_MS


def test_a_destination_can_be_named_so_often_and_no_more() -> None:
    bench = SessionBench()
    bench.fund(100, TO)
    for i in range(NAMINGS_MAX - 1):
        assert isinstance(bench.send(name(f"a{i}@example.org")).reply, SessionView)
    assert refusal_of(bench.send(name(OTHER))).code is Code.RATE_LIMITED


def test_a_session_opened_without_a_destination_can_be_given_one_later() -> None:
    bench = SessionBench()
    bench.fund()
    reply = bench.send(name(TO)).reply
    assert isinstance(reply, SessionView) and reply.refund.standing is not None
    assert reply.refund.standing.destination == TO
    bench.send(close())
    resolve(bench, target(7, 98))
    pay(bench)
    assert bench.view().refund.paid_msat == Msat(98_000)


@pytest.mark.parametrize(
    ("by", "caveat"),
    [
        (grant(actions=frozenset({Action.READ, Action.TOPUP})), "actions = read,topup"),
        (grant(actions=frozenset()), "actions = "),
        (grant(("p", 10**9)), "max_msat = 1000000000"),
        (grant(per_request=10**9), "max_msat_per_request = 1000000000"),
        (grant(expires_at_s=10**10), "expires_at = 10000000000"),
        (grant(expires_at_s=1), "expires_at = 1"),
    ],
)
def test_a_narrowed_credential_never_redirects_the_money(by: Grant, caveat: str) -> None:
    bench = SessionBench()
    bench.fund(100, TO)
    refusal = refusal_of(bench.send(name(OTHER, by)))
    assert refusal.code is Code.CAVEAT_VIOLATED and refusal.details["caveat"] == caveat
    assert bench.state.refunds.standing is not None and bench.state.refunds.standing.destination == TO


def test_a_credential_that_may_close_may_name_a_destination() -> None:
    bench = SessionBench()
    bench.fund()
    by = grant(actions=frozenset({Action.CLOSE, Action.REQUEST}), spender="helper")
    assert isinstance(bench.send(name(TO, by)).reply, SessionView)


def test_the_tries_end_after_thirty_days_and_the_debt_stays() -> None:
    bench = closed()
    resolve(bench, Unresolved("not_found", permanent=True))
    bench.now_ms += PATIENCE_MS
    bench.send(Wake())
    (event,) = resolve(bench, AWAY).events
    assert isinstance(event, RefundTryFailed) and event.next_ms is None
    bench.crash()
    assert bench.running == {} and due(bench) is None and not bench.behaviour.done(bench.state)
    assert bench.view().refund.owed_msat == Msat(100_000)
    # An invoice by hand is still paid, and so is another destination.
    bench.send(name(OTHER))
    assert due(bench) == bench.now_ms + MINUTE_MS
    bench.send(close(target(9, 98), "by hand"))
    pay(bench)
    assert bench.view().refund.paid_msat == Msat(98_000) and due(bench) is None


def test_the_opening_with_another_destination_under_the_same_key_is_a_conflict() -> None:
    bench = SessionBench()
    bench.fund(100, TO)
    bench.send(name(OTHER))
    assert bench.send(OpenSession(100, "client", refund_to=TO)).reply is not None
    assert refusal_of(bench.send(OpenSession(100, "client", refund_to=OTHER))).code is Code.IDEMPOTENCY_CONFLICT
    assert refusal_of(bench.send(OpenSession(100, "client"))).code is Code.IDEMPOTENCY_CONFLICT


def _told(bench: SessionBench) -> list[dict[str, object]]:
    """The notices under way, as their receiver gets them."""
    return [msgspec.json.decode(notice.body) for notice in bench.running.values() if isinstance(notice, Notify)]


def test_a_webhook_is_told_of_the_payment() -> None:
    bench = closed(webhook=Webhook("https://example.org/hook"))
    resolve(bench, target(7, 98))
    assert _told(bench) == []
    pay(bench)
    (told,) = _told(bench)
    assert told["type"] == "refund.paid"
    assert told["data"] == {
        "sessionId": "ses_0123456789abcdefghijklmnopqrstuv",
        "amountSats": 98,
        "paymentHash": f"{7:064x}",
        "owedMsat": 2_000,
    }


def test_a_webhook_is_told_of_each_new_reason_for_a_failure_and_of_the_end() -> None:
    bench = closed(webhook=Webhook("https://example.org/hook"))
    for answer in (AWAY, AWAY, Unresolved("not_found", permanent=True)):
        resolve(bench, answer)
        due_ms = bench.state.refunds.standing
        assert due_ms is not None
        bench.now_ms = due_ms.next_ms
        bench.send(Wake())
    assert [told["type"] for told in _told(bench)] == ["refund.failed"] * 2
    assert [told["data"]["error"] for told in _told(bench)] == ["unreachable", "not_found"]  # type: ignore[index]
    bench.now_ms += PATIENCE_MS
    resolve(bench, Unresolved("not_found", permanent=True))
    (*_, last) = _told(bench)
    assert last["data"] == {
        "sessionId": "ses_0123456789abcdefghijklmnopqrstuv",
        "error": "not_found",
        "owedMsat": 100_000,
    }


def test_payouts_to_invoices_by_hand_are_not_told_of() -> None:
    bench = SessionBench()
    bench.fund(100, webhook=Webhook("https://example.org/hook"))
    bench.send(close(target(7, 98)))
    pay(bench)
    assert _told(bench) == []


def test_a_node_that_does_not_know_the_payment_yet_is_not_believed() -> None:
    bench = closed()
    resolve(bench, target(7, 98))
    (key,) = running(bench, SendPayout)
    bench.fail(key)
    (key,) = running(bench, LookUpPayout)
    look_up = bench.running[key]
    assert isinstance(look_up, LookUpPayout)
    assert look_up.failure_final_at_ms == bench.now_ms + ABSENT_MS
    assert running(bench, ResolveRefund) == []
