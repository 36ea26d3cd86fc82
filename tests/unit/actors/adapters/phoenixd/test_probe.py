"""Words of `satmeter check` on a phoenixd."""

from __future__ import annotations

import time
from typing import Any

import httpx
import pytest

from satmeter.actors.adapters.lightning.backend import Probed
from satmeter.actors.adapters.phoenixd.probe import probe
from satmeter.config.settings import Settings
from tests.lightning.stand_ins.phoenixd.app import Phoenixd
from tests.lightning.stand_ins.phoenixd.books import Books
from tests.lightning.stand_ins.phoenixd.faults import Faults

PASSWORD, LIMITED = "the-full-one", "the-limited-one"
ADDRESS = "http://127.0.0.1:9740"


def node(**books: int) -> Phoenixd:
    return Phoenixd(
        Books(lambda: time.time_ns() // 1_000_000, **books), Faults(), password=PASSWORD, limited_password=LIMITED
    )


async def told(phoenixd: Phoenixd, password: str = PASSWORD, *, may_order: bool = True, **settings: Any) -> Probed:
    return await told_by(httpx.ASGITransport(phoenixd.app), password, may_order=may_order, **settings)


async def told_by(
    transport: httpx.AsyncBaseTransport, password: str = PASSWORD, *, may_order: bool = True, **settings: Any
) -> Probed:
    values = {"PHOENIXD_URL": ADDRESS, "PHOENIXD_PASSWORD": password, **settings}
    async with httpx.AsyncClient(transport=transport) as http:
        return await probe(Settings(**values), http, may_order=may_order)


async def test_a_node_with_room_is_proven_and_told_of() -> None:
    phoenixd = node(balance_sats=50_000, inbound_sats=1_900_000)
    found = await told(phoenixd)
    assert not found.problems
    assert not found.warnings
    assert list(found.proofs) == [
        "The password may pay.",
        "A test invoice over 1 sat was made and found again.",
        "It can receive up to 1,900,000 sats before it must buy room.",
        "It can pay out up to 50,000 sats, less its fee of 0.4 % and 4 sats.",
    ]
    assert len(phoenixd.books.incoming) == 1
    assert not phoenixd.books.outgoing


async def test_without_leave_no_invoice_is_made() -> None:
    phoenixd = node(balance_sats=50_000, inbound_sats=1_900_000)
    found = await told(phoenixd, may_order=False)
    assert not found.problems
    assert not phoenixd.books.incoming


@pytest.mark.parametrize(
    ("password", "variable", "words"),
    [("wrong", "PHOENIXD_PASSWORD", "does not know"), (LIMITED, "PHOENIXD_PASSWORD", "can't pay refunds")],
)
async def test_a_password_without_rights_is_a_problem(password: str, variable: str, words: str) -> None:
    (problem,) = (await told(node(), password)).problems
    assert problem.variable == variable
    assert words in problem.message
    assert password not in problem.message


async def test_a_release_that_is_too_old_is_a_problem_of_the_address() -> None:
    phoenixd = node()
    phoenixd.faults.version = "0.4.2-24b817a"
    (problem,) = (await told(phoenixd)).problems
    assert (problem.variable, "upgrade" in problem.message) == ("PHOENIXD_URL", True)


async def test_the_first_channel_and_its_price_are_told_before_it_is_bought() -> None:
    (warning,) = (await told(node())).warnings
    assert "no channel yet" in warning.message
    # The mining fee, 1 % of two million, and a thousand for a channel that is new.
    assert "22,219 sats" in warning.message


async def test_what_went_into_the_fee_credit_is_told() -> None:
    phoenixd = node()
    invoice = phoenixd.books.invoice(1_500, "deposit")
    assert phoenixd.receive(invoice.payment_hash)
    messages = [warning.message for warning in (await told(phoenixd)).warnings]
    assert any("1,500 sats came in as fee credit" in message for message in messages)


async def test_room_for_less_than_a_deposit_is_told_with_the_price_of_more() -> None:
    phoenixd = node(balance_sats=1_000_000, inbound_sats=70_000)
    (warning,) = (await told(phoenixd, SATMETER_SESSION_MAX_SATS=100_000)).warnings
    assert "room for 70,000 sats" in warning.message
    assert "21,219 sats" in warning.message


async def test_a_channel_that_is_not_ready_is_told() -> None:
    phoenixd = node(balance_sats=50_000, inbound_sats=1_900_000)
    phoenixd.books.channel_state = "Offline"
    messages = [warning.message for warning in (await told(phoenixd)).warnings]
    assert any("(Offline)" in message for message in messages)


@pytest.mark.parametrize("status", [404, 502])
async def test_what_is_no_phoenixd_is_a_problem_of_the_address(status: int) -> None:
    transport = httpx.MockTransport(lambda request: httpx.Response(status, text="<html>"))
    (problem,) = (await told_by(transport)).problems
    assert problem.variable == "PHOENIXD_URL"


async def test_a_node_that_is_away_is_a_problem_of_the_address() -> None:
    def refuse(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused")

    (problem,) = (await told_by(httpx.MockTransport(refuse))).problems
    assert problem.variable == "PHOENIXD_URL"
    assert "ConnectError" in problem.message


async def test_a_node_that_cannot_tell_the_price_yet_is_told_of_all_the_same() -> None:
    phoenixd = node()
    phoenixd.faults.is_unconnected = True
    (warning,) = (await told(phoenixd)).warnings
    assert "1 % of 2,000,000 sats and the mining fee" in warning.message
