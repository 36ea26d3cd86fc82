"""Sessions on a real server: many requests at once, clients and processes that go away in the middle, refunds."""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx

from satmeter.actors.domain.credentials.macaroon import attenuate
from tests.cluster.test_serve import kill_hosts
from tests.helpers.cluster.jobs import pay
from tests.helpers.cluster.sessions import Client, check_ledger, session
from tests.helpers.patience import PATIENCE_S
from tests.helpers.served import MessagesApi, Served, patiently


def test_a_session_from_deposit_to_refund(server: Served) -> None:
    with session(server) as client:
        answer = client.ask()
        assert answer["state"] == "complete" and answer["result"]
        assert answer["balanceMsat"] == client.show()["balanceMsat"]
        top_up = client.post("topup", {"amountSats": 500}).json()["topUpInvoice"]
        pay(server, top_up)
        patiently(lambda: client.show()["depositedMsat"] == 1_500_000, "the top-up did not arrive")
        left_sats = client.show()["balanceSats"] * 99 // 101
        invoice = server.client.post("/dev/stub/invoice", json={"amountSats": left_sats}).json()
        closed = client.refunded(invoice["paymentRequest"])
        assert closed.status_code == 200, closed.text
        refund = closed.json()["refund"]
        assert closed.json()["state"] == "closed" and refund["state"] == "partly_paid" and refund["payableSats"] > 0
        assert refund["paidMsat"] == left_sats * 1_000
        assert client.post("request", {"request": "hello"}).status_code == 410
        check_ledger(client)


def test_200_requests_at_once_with_a_balance_for_about_50_some_streams_cut_off(
    server: Served, model: MessagesApi
) -> None:
    """The answers must add up to what the session says, and nothing is ever overspent."""
    chance = random.Random(7)
    with session(server, 10_000) as probe:
        hold_msat = probe.ask("request number 100", maxTokens=100)["costLedger"]["paidMsat"]
    with session(server, hold_msat * 50 // 1_000) as client:
        model.hold()
        try:
            with ThreadPoolExecutor(200) as pool:
                asking = [pool.submit(_ask_or_leave, client, number, chance.random() < 0.3) for number in range(200)]
                patiently(lambda: sum(ask.done() for ask in asking) >= 140, "too few were refused")
                assert client.show()["heldMsat"] > 40 * hold_msat
                model.let_go()
                outcomes = [ask.result(PATIENCE_S) for ask in asking]
        finally:
            model.let_go()
        after = client.settled()
        check_ledger(client)
        debits = {e["requestId"]: e["amountMsat"] for e in client.ledger() if e["kind"] == "debit"}
        told = {request_id: debit for request_id, debit in outcomes if request_id and debit is not None}
        left = [request_id for request_id, debit in outcomes if request_id and debit is None]
        assert 45 <= len(told) + len(left) <= 55 and told and left
        assert len(debits) == len(told) + len(left)
        assert {request_id: debits[request_id] for request_id in told} == told
        assert sum(debits.values()) == after["spentMsat"] <= after["depositedMsat"]


def _ask_or_leave(client: Client, number: int, leave: bool) -> tuple[str, int | None]:
    """The request's id and its debit; None for one that was left in the middle; no id for one that was refused."""
    request = f"request number {number:03}"
    if not leave:
        answer = client.post("request", {"request": request, "maxTokens": 100})
        assert answer.status_code in (200, 402), answer.text
        return (answer.json()["requestId"], answer.json()["debitedMsat"]) if answer.status_code == 200 else ("", 0)
    with client.stream(request, maxTokens=100) as events:
        return ("left", None) if next(events, ("refused", {}))[0] == "delta" else ("", 0)


def test_a_host_killed_between_hold_and_debit_charges_the_retry_once(server: Served, model: MessagesApi) -> None:
    with session(server) as client:
        before = model.requests
        model.hold()
        try:
            with ThreadPoolExecutor(1) as pool:
                asking = pool.submit(client.ask, "once and only once", "key")
                model.wait_for_request(before + 1)
                assert client.show()["heldMsat"] > 0
                kill_hosts(server)
                # The front sends the request again by itself, or else its client; the hold is released before.
                model.wait_for_request(before + 2)
                model.let_go()
                answer = asking.result(PATIENCE_S)
        finally:
            model.let_go()
        assert client.ask("once and only once", "key") == answer
        shown = client.settled()
        assert shown["spentMsat"] == answer["debitedMsat"]
        kinds = [entry["kind"] for entry in client.ledger()]
        assert kinds == ["deposit", "hold", "release", "hold", "debit", "release"]
        check_ledger(client)


def test_a_client_that_leaves_a_stream_stops_the_model(server: Served, model: MessagesApi) -> None:
    with session(server) as client:
        cut_before = model.streams_cut
        model.hold_stream(after_events=6)
        try:
            with client.stream("tell me a long story") as events:
                assert next(events)[0] == "delta"
            patiently(lambda: model.streams_cut > cut_before, "the model went on")
        finally:
            model.let_go()
        shown = client.settled()
        assert 0 < shown["spentMsat"] < shown["depositedMsat"]
        check_ledger(client)


def test_a_stream_whose_host_dies_says_so_and_costs_nothing(server: Served, model: MessagesApi) -> None:
    with session(server) as client:
        model.hold_stream(after_events=6)
        try:
            with client.stream("tell me a story") as events:
                assert next(events)[0] == "delta"
                kill_hosts(server)
                name, error = list(events)[-1]
                assert name == "error" and error["code"] == "unavailable"
        finally:
            model.let_go()
        assert client.settled()["spentMsat"] == 0


def test_a_narrowed_credential_spends_its_limit_and_no_more(server: Served) -> None:
    with session(server, 10_000) as client:
        token = client.http.headers["Authorization"].removeprefix("Bearer ")
        limit = client.ask(maxTokens=100)["costLedger"]["paidMsat"] * 3
        narrow = attenuate(token, [f"max_msat = {limit}", "actions = request,read", "name = helper"])
        helper = Client(server, client.session_id, narrow)
        with ThreadPoolExecutor(20) as pool:
            answers = list(pool.map(lambda _: helper.post("request", {"request": "hi", "maxTokens": 100}), range(30)))
        spent = sum(answer.json()["debitedMsat"] for answer in answers if answer.status_code == 200)
        assert 0 < spent <= limit
        refused = [answer.json() for answer in answers if answer.status_code != 200]
        assert {body["code"] for body in refused} == {"caveat_violated"}
        assert helper.post("topup", {"amountSats": 100}).json()["code"] == "caveat_violated"
        entries = [entry for entry in client.ledger() if entry.get("spender") == "helper"]
        assert sum(entry["amountMsat"] for entry in entries if entry["kind"] == "debit") == spent
        helper.close()


def test_a_deposit_that_is_paid_while_everything_is_down_is_found(server: Served) -> None:
    created = server.client.post("/sessions", json={"amountSats": 100}).json()
    client = Client(server, created["sessionId"], created["macaroon"])
    kill_hosts(server)
    server.kill("ray::TreasuryActor")
    pay(server, created["depositInvoice"])

    def active() -> bool:
        answer: httpx.Response = client.http.get(client.path)
        return answer.status_code == 200 and bool(answer.json()["state"] == "active")

    patiently(active, "the deposit was not found")
    body: dict[str, Any] = client.show()
    assert body["depositedMsat"] == 100_000
    client.close()
