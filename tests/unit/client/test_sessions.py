"""The client's sessions and jobs: retries, refunds, ends, and what is kept of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from satmeter.actors.domain.credentials.macaroon import read
from satmeter.client.core import Core
from satmeter.client.errors import (
    CaveatViolatedError,
    InvalidRequestError,
    NoAnswerError,
    NoSessionError,
    PaymentInDoubtError,
    SatmeterError,
    SessionFileError,
    SessionOverError,
    StreamInterruptedError,
    UnavailableError,
    UnexpectedAnswerError,
)
from satmeter.client.flow import Lost, Reply
from satmeter.client.macaroons import caveats_of, narrow, session_id_of
from satmeter.client.state import FileStore, replaced
from satmeter.client.wire import Events, refusal
from tests.helpers.client_lnbits import reply
from tests.helpers.client_world import SERVER, FakeSession, World, refused


def ask(world: World, core: Core, number: int = 0) -> Any:
    return world.play(core.sessions.ask({"request": f"r{number}"}, f"k{number}", None))


def opened(deposit_sats: int = 100) -> tuple[World, Core]:
    world = World()
    core = world.core(deposit_sats=deposit_sats)
    world.play(core.sessions.open(deposit_sats))
    return world, core


def faults(*found: str | None) -> Any:
    left = list(found)
    return lambda request: left.pop(0) if left else None


@pytest.mark.parametrize("fault", ["lost", "unanswered", "503"])
def test_a_request_without_an_answer_is_sent_again_under_its_key_and_charged_once(fault: str) -> None:
    world, core = opened()
    world.fault = faults(fault, fault)
    world.sent.clear()
    assert ask(world, core).text == "answer to r0"
    assert [request.headers["Idempotency-Key"] for request in world.sent] == ["k0"] * 3
    assert world.server.answered == ["r0"]


def test_it_is_given_up_after_as_many_attempts_as_were_allowed() -> None:
    world, core = opened()
    world.fault = lambda request: "unanswered"
    world.sent.clear()
    with pytest.raises(NoAnswerError, match="after 4 attempts: ReadTimeout"):
        ask(world, core)
    assert len(world.sent) == 4


def test_a_server_that_wants_more_patience_than_there_is_is_not_waited_for() -> None:
    world, core = opened()
    world.server.handle = lambda request: reply(  # type: ignore[method-assign]
        503, {"error": "Later.", "code": "unavailable", "requestId": "req_1"}, **{"retry-after": "60"}
    )
    before_s = world.clock_s
    with pytest.raises(UnavailableError) as caught:
        ask(world, core)
    assert (caught.value.retry_after_s, caught.value.request_id) == (60, "req_1")
    assert world.clock_s - before_s < 1


def test_what_a_proxy_says_while_the_server_restarts_is_no_answer() -> None:
    world, core = opened()
    handle, pages = world.server.handle, [Reply(502, {"content-type": "text/html"}, b"<html>")] * 2
    world.server.handle = lambda request: pages.pop() if pages else handle(request)  # type: ignore[method-assign]
    assert ask(world, core).text == "answer to r0"


def test_something_else_than_a_server_is_told_from_one() -> None:
    world, core = opened()
    world.server.handle = lambda request: Reply(200, {"content-type": "text/html"}, b"<html>")  # type: ignore[method-assign]
    with pytest.raises(UnexpectedAnswerError):
        ask(world, core)
    world.server.handle = lambda request: Reply(418, {}, b"teapot")  # type: ignore[method-assign]
    with pytest.raises(UnexpectedAnswerError, match="418"):
        ask(world, core)


def test_a_session_that_is_over_is_followed_by_a_new_one_and_kept_until_it_owes_nothing() -> None:
    world, core = opened(100)
    world.play(core.accounts.close(core.accounts.known(), None))
    assert ask(world, core).text == "answer to r0"
    state = world.store.read()
    assert len(world.server.sessions) == 2 and len(state.former) == 1
    world.play(core.refunds.close(None))
    assert [session.paid_back for session in world.server.sessions.values()] == [98_000, 88_000]
    assert world.store.read().session is None and world.store.read().former == []


def test_what_is_left_comes_back_to_the_wallet() -> None:
    world, core = opened(100)
    ask(world, core)
    status = world.play(core.refunds.close(None))
    assert (status.state, status.refund.paid_msat, status.refund.owed_msat) == ("closed", 88_000, 2_000)
    with pytest.raises(NoSessionError):
        world.play(core.refunds.close(None))


def test_the_reserve_of_a_large_refund_is_collected_by_a_second_invoice() -> None:
    world, core = opened(1_000)
    status = world.play(core.refunds.close(None))
    assert (status.refund.state, status.refund.paid_msat, status.refund.owed_msat) == ("paid", 998_000, 2_000)
    assert [session.paid_back for session in world.server.sessions.values()] == [998_000]


def test_all_that_is_owed_comes_back_to_an_address_and_no_invoice_is_made() -> None:
    world, core = opened(400)
    world.play(core.accounts.close(core.accounts.known(), None))
    ask(world, core)
    status = world.play(core.refunds.close("me@example.org"))
    assert status.refund.state == "paid" and world.store.read().former == []
    assert [session.owed for session in world.server.sessions.values()] == [2_000, 2_000]
    bodies = [msgspec.json.decode(request.body or b"{}") for request in world.sent if request.url.endswith("/close")]
    assert {body.get("paymentRequest") for body in bodies} == {None, "me@example.org"}


def test_a_phone_fetches_the_rest_and_what_it_leaves_is_collected_later() -> None:
    world, core = opened(100)
    link = world.play(core.refunds.link())
    assert link.link == f"lightning:{link.lnurl}" and link.lnurl not in repr(link)
    assert world.store.read().session is None and len(world.store.read().former) == 1
    assert world.play(core.refunds.link()) == link
    assert world.play(core.refunds.close(None)).refund.paid_msat == 98_000
    with pytest.raises(NoSessionError):
        world.play(core.refunds.link())


def test_a_server_that_can_t_pay_is_sent_one_invoice_and_owes_the_rest() -> None:
    world, core = opened(1_000)
    invoices: list[str] = []
    close = world.server._close

    def refuse(session: FakeSession, payment_request: str | None) -> Reply:
        if payment_request is None:
            return close(session, None)
        invoices.append(payment_request)
        status = world.server._status(session)
        told = {"failure": "The server's wallet holds too little.", "failureCode": "server_cannot_pay"}
        world.server._status = lambda _: {**status, "refund": {**status["refund"], **told}}  # type: ignore[method-assign,assignment]
        return reply(200, world.server._status(session))

    world.server._close = refuse  # type: ignore[method-assign]
    status = world.play(core.refunds.close(None))
    assert (len(invoices), status.refund.owed_msat, status.refund.payable_sats) == (1, 1_000_000, 990)
    assert not status.refund.worth_another_invoice and len(world.store.read().former) == 1


def test_a_session_that_is_closed_with_a_payment_on_its_way_is_kept_until_that_has_come_back_too() -> None:
    world, core = opened(100)
    ask(world, core)
    world.lnbits.script = ["stuck"]
    with pytest.raises(PaymentInDoubtError):
        world.play(core.sessions.top_up(50))
    world.play(core.refunds.close(None))
    world.lnbits.rows[world.lnbits.orders[-1]][2] = 1
    status = world.play(core.refunds.close(None))
    assert status.refund.paid_msat == 88_000 + 50_000 and world.store.read().former == []


def test_a_wallet_that_makes_no_invoice_leaves_the_rest_owed_and_its_macaroon_known() -> None:
    world, core = opened(100)
    world.fault = lambda request: "lost" if request.url.startswith("http://lnbits") else None
    with pytest.raises(NoAnswerError):
        world.play(core.refunds.close(None))
    world.fault = lambda request: None
    assert world.play(core.refunds.close(None)).refund.paid_msat == 98_000


def test_somebody_s_credential_is_used_as_it_is_and_never_replaced() -> None:
    world, core = opened(100)
    helper = world.core(macaroon=core.accounts.known().macaroon)
    assert ask(world, helper).text == "answer to r0"
    world.play(core.refunds.close(None))
    with pytest.raises(SessionOverError):
        ask(world, helper, 1)
    assert len(world.server.sessions) == 1


def test_a_request_may_be_given_a_limit_that_the_server_holds_to() -> None:
    world, core = opened()
    world.sent.clear()
    world.server.handle = lambda request: refused(403, "caveat_violated", caveat="x")  # type: ignore[method-assign]
    with pytest.raises(CaveatViolatedError):
        world.play(core.sessions.ask({"request": "r"}, "k", 5_000))
    sent = world.sent[0].headers["Authorization"].removeprefix("Bearer ")
    assert read(sent)[1] == ["max_msat_per_request = 5000"]


def test_a_macaroon_is_narrowed_without_asking_anybody() -> None:
    world, core = opened(100)
    world.sent.clear()
    caveats = caveats_of(
        max_msat=50_000,
        max_msat_per="9000/hour",
        max_msat_per_request=None,
        expires_at=1_900_000_000,
        actions=["request"],
        name="helper",
    )
    narrowed = core.narrowed(caveats)
    assert read(narrowed)[1] == [
        "max_msat = 50000",
        "max_msat_per = 9000/hour",
        "expires_at = 1900000000",
        "actions = request",
        "name = helper",
    ]
    assert world.sent == [] and session_id_of(narrowed) == core.accounts.known().session_id
    for wrong in ("max_msat = -1", "max_msat_per = 5/month", "actions = everything", "nonsense"):
        with pytest.raises(ValueError, match="not a caveat"):
            narrow(narrowed, [wrong])
    with pytest.raises(ValueError, match="not a macaroon"):
        narrow("abc", ["name = x"])
    for caveats in (["name = x"] * 65, [f"max_msat = {msat}" for msat in range(9, 0, -1)]):
        with pytest.raises(ValueError, match="a server would refuse it"):
            narrow(narrowed, caveats)


def events(*named: tuple[str, Any]) -> list[bytes | Reply | Lost]:
    found = [b"event: %b\ndata: %b\n\n" % (name.encode(), msgspec.json.encode(data)) for name, data in named]
    return [Reply(200, {}, b""), *found]


def streamed(world: World, core: Core) -> tuple[Any, list[str]]:
    emitted: list[str] = []
    answer = world.play(core.sessions.stream({"request": "r"}, "k", None), emitted)
    return answer, emitted


def done(world: World, text: str) -> tuple[str, Any]:
    session = next(iter(world.server.sessions.values()))
    return "done", {**world.server.answer(session, "r"), "result": text}


def test_a_stream_that_breaks_off_goes_on_where_it_was() -> None:
    world, core = opened()
    first = events(("delta", {"text": "Hel"}))
    second = events(("delta", {"text": "He"}), ("delta", {"text": "llo"}), done(world, "Hello"))
    world.stream = [iter([*first, Lost("ReadError", True)]), iter(first), iter(second)]
    answer, emitted = streamed(world, core)
    assert (answer.text, emitted) == ("Hello", ["Hel", "lo"])


def test_a_stream_whose_answer_was_written_anew_gives_the_whole_that_was_paid() -> None:
    world, core = opened()
    first = events(("delta", {"text": "Hel"}), ("error", {"error": "x", "code": "unavailable", "requestId": "r"}))
    second = events(("delta", {"text": "Good"}), ("delta", {"text": "bye"}), done(world, "Goodbye"))
    world.stream = [iter(first), iter(second)]
    emitted: list[str] = []
    with pytest.raises(StreamInterruptedError) as caught:
        world.play(core.sessions.stream({"request": "r"}, "k", None), emitted)
    assert (caught.value.answer.text, emitted) == ("Goodbye", ["Hel"])


def test_a_stream_that_is_refused_is_paid_for_and_asked_again() -> None:
    world, core = opened()
    short = refused(402, "insufficient_balance", requiredMsat=200_000, balanceMsat=100_000)
    world.stream = [iter([short]), iter(events(("delta", {"text": "Hi"}), done(world, "Hi")))]
    assert streamed(world, core)[1] == ["Hi"]
    assert world.lnbits.paid_sats == 100 + 900


def test_a_stream_that_never_ends_well_is_an_error() -> None:
    world, core = opened()
    world.stream = [iter([Lost("ReadError", True)]) for _ in range(4)]
    with pytest.raises(NoAnswerError, match="4 attempts"):
        streamed(world, core)
    failed = events(("error", {"error": "It failed.", "code": "model_failed", "requestId": "r", "debitedMsat": 5}))
    world.stream = [iter(failed)]
    with pytest.raises(SatmeterError) as caught:
        streamed(world, core)
    assert caught.value.debited_msat == 5  # type: ignore[attr-defined]


def test_events_are_read_however_they_are_cut() -> None:
    text = b": keep-alive\n\nevent: delta\ndata: {}\n\nid: 1\nevent: done\ndata: a\ndata: b\n\n"
    for size in range(1, len(text)):
        reader = Events()
        found = [event for at in range(0, len(text), size) for event in reader.feed(text[at : at + size])]
        assert found == [("delta", b"{}"), ("done", b"a\nb")]


def test_a_refusal_has_all_that_helps_and_its_own_class() -> None:
    fields = [{"path": "request", "message": "Must not be empty"}]
    error = refusal(refused(400, "invalid_request", fields=fields))
    assert isinstance(error, InvalidRequestError) and error.fields == fields
    assert (error.status, error.code, error.request_id) == (400, "invalid_request", "req_x")


def test_a_file_holds_the_session_for_its_owner_alone(tmp_path: Path) -> None:
    store = FileStore(tmp_path / "new" / "session.json", SERVER)
    assert store.read().session is None
    store.change(lambda state: replaced(state, paid_sats=7))
    assert FileStore(store.path, SERVER).read().paid_sats == 7
    assert store.path.stat().st_mode & 0o777 == 0o600
    with pytest.raises(SessionFileError, match="belongs to"):
        FileStore(store.path, "http://elsewhere.test").read()
    store.path.write_text("{")
    with pytest.raises(SessionFileError, match="not a session file"):
        store.read()


def test_only_one_process_at_a_time_pays_from_a_file(tmp_path: Path) -> None:
    one, other = (FileStore(tmp_path / "session.json", SERVER) for _ in range(2))
    assert one.try_lock() and not other.try_lock()
    one.unlock()
    assert other.try_lock()
    other.unlock()


@pytest.mark.parametrize("url", ["satmeter.test", "ftp://satmeter.test", "http://", "http://a/?b=c"])
def test_what_is_no_address_is_refused_at_once(url: str) -> None:
    with pytest.raises(ValueError, match="address"):
        Core(url)
