"""Top-ups: further invoices of a session."""

from __future__ import annotations

from satmeter.actors.domain.behaviour import Done, Failed
from satmeter.actors.domain.credentials.caveats import Action
from satmeter.actors.domain.errors import Code
from satmeter.actors.domain.payments.invoices import Settled, SettleOutcome
from satmeter.actors.domain.session.messages import TopUpInvoice
from tests.helpers.jobs import HOUR_MS, START_MS, invoice
from tests.helpers.sessions import SessionBench, close, grant, refusal_of, top_up

APPLIED = Settled(SettleOutcome.APPLIED)


def test_a_top_up_is_made_once_for_each_key() -> None:
    bench = SessionBench()
    bench.fund()
    first = bench.send(top_up("a", 50))
    assert first.wait_for is not None
    assert bench.send(top_up("a", 50)).wait_for == first.wait_for
    assert refusal_of(bench.send(top_up("a", 60, digest="other"))).code is Code.IDEMPOTENCY_CONFLICT
    made = invoice(2, 50)
    assert bench.finish(first.wait_for, made).answers == {first.wait_for: TopUpInvoice(made)}
    again = bench.send(top_up("a", 50))
    assert (again.reply, again.events) == (TopUpInvoice(made), ())
    assert refusal_of(bench.send(top_up("a", 60, digest="other"))).code is Code.IDEMPOTENCY_CONFLICT


def test_several_top_ups_wait_for_payment_and_each_is_credited() -> None:
    bench = SessionBench()
    bench.fund()
    two, three = invoice(2, 50), invoice(3, 70)
    bench.top_up_with(two, "a")
    bench.top_up_with(three, "b")
    assert bench.view().pending_invoices == (two, three)
    bench.pay(three)
    bench.pay(three)
    assert bench.view().pending_invoices == (two,)
    bench.pay(two)
    assert bench.money() == (220_000, 0, 0, 0, 0)


def test_a_session_has_only_so_many_unpaid_invoices_made_or_being_made() -> None:
    bench = SessionBench()
    bench.fund()
    bench.top_up_with(invoice(2, 50), "a")
    bench.send(top_up("b"))
    bench.send(top_up("c"))
    refusal = refusal_of(bench.send(top_up("d")))
    assert (refusal.code, refusal.retry_after_s) == (Code.RATE_LIMITED, 60)
    bench.pay(invoice(2, 50))
    assert bench.send(top_up("d")).wait_for


def test_any_open_invoice_will_do_if_it_is_large_enough_and_can_still_be_paid() -> None:
    bench = SessionBench()
    bench.fund()
    nobody = grant(actions=frozenset())
    bench.top_up_with(invoice(2, 50), "a")
    assert bench.send(top_up("b", 50, any_open=True, by=nobody)).reply == TopUpInvoice(invoice(2, 50))
    assert bench.send(top_up("c", 51, any_open=True, by=nobody)).wait_for
    bench.now_ms = START_MS + HOUR_MS - 60_000
    assert bench.send(top_up("d", 50, any_open=True, by=nobody)).wait_for


def test_who_may_not_top_up_is_told_why() -> None:
    bench = SessionBench()
    bench.open()
    assert refusal_of(bench.send(top_up())).code is Code.PAYMENT_REQUIRED
    bench.pay()
    by = grant(actions=frozenset({Action.READ}))
    assert refusal_of(bench.send(top_up(by=by))).details == {"caveat": "actions = read"}
    bench.send(close())
    assert refusal_of(bench.send(top_up())).code is Code.CLOSED


def test_a_top_up_that_the_node_could_not_make_can_be_asked_for_again() -> None:
    bench = SessionBench()
    bench.fund()
    topic = bench.send(top_up("a")).wait_for
    assert topic is not None
    answers = bench.fail(topic).answers
    assert getattr(answers[topic], "code", None) is Code.UNAVAILABLE
    assert topic not in bench.running
    assert bench.send(top_up("a")).wait_for == topic
    assert topic in bench.running


def test_a_top_up_under_way_is_ordered_again_after_a_crash_and_only_one_invoice_counts() -> None:
    bench = SessionBench()
    bench.fund()
    topic = bench.send(top_up("a", 50)).wait_for
    assert topic is not None
    lost = bench.running[topic]
    bench.crash(2)
    assert bench.running[topic] == lost
    bench.finish(topic, invoice(3, 50))
    assert bench.send(Done(lost, invoice(2, 50))).events == ()
    assert bench.send(Failed(lost, permanent=False)).events == ()
    assert refusal_of(bench.pay(invoice(2, 50))).code is Code.NOT_FOUND
    assert bench.pay(invoice(3, 50)).reply == APPLIED
