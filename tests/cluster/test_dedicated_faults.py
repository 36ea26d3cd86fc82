"""Processes of dedicated actors, and their hosts, that stand still: others go on, and who wakes may write nothing."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.cluster.commands import audited
from tests.helpers.cluster.jobs import create, finish, pay, wait_for
from tests.helpers.cluster.owners import epoch_of, knows_of_its_loss, owner_of, owners
from tests.helpers.cluster.sessions import Client, check_ledger, session
from tests.helpers.patience import PATIENCE_S
from tests.helpers.served import MessagesApi, Served, patiently, served

_REQUEST = "Name three uses of a sextant."


@pytest.fixture(scope="module")
def dedicated(model: MessagesApi) -> Iterator[Served]:
    with (
        tempfile.TemporaryDirectory(prefix="sm-") as directory,
        served(
            Path(directory) / "data",
            SATMETER_HOSTS="2",
            SATMETER_PLACEMENT="dedicated",
            ANTHROPIC_API_KEY="test",
            ANTHROPIC_BASE_URL=model.url,
        ) as server,
    ):
        yield server


def test_a_process_that_stands_still_is_replaced_and_charges_nothing_when_it_wakes(
    dedicated: Served, model: MessagesApi
) -> None:
    with own_process(dedicated) as (client, process), holding(model), ThreadPoolExecutor() as pool:
        epoch, requests = epoch_of(dedicated, client.session_id), model.requests
        asking = pool.submit(client.ask, _REQUEST, "key")
        model.wait_for_request(requests + 1)
        with dedicated.paused(process):
            model.wait_for_request(requests + 2)
            assert epoch_of(dedicated, client.session_id) > epoch
            model.let_go()
            answer = asking.result(PATIENCE_S)
        patiently(lambda: process not in dedicated.descendants("ray::DedicatedActor"), "it lives on")
        is_charged(client, {"key": answer})
    audited(dedicated.data_dir)


def test_a_treasury_that_stands_still_is_replaced_and_what_is_paid_meanwhile_is_credited(dedicated: Served) -> None:
    (treasury,) = dedicated.descendants("ray::TreasuryActor")
    created = create(dedicated)
    with dedicated.paused(treasury):
        pay(dedicated, created["evalInvoice"])
        wait_for(dedicated, created["jobId"], "awaiting_work_payment")
    patiently(lambda: treasury not in dedicated.descendants("ray::TreasuryActor"), "it lives on")
    assert finish(dedicated, created["jobId"])["result"]


def test_a_host_and_its_process_that_wake_after_their_partitions_moved_write_and_end_nothing(
    dedicated: Served, model: MessagesApi
) -> None:
    with ExitStack() as stack:
        held: dict[str, tuple[Client, int]] = {}
        while set(held) != owners(dedicated):
            client, process = stack.enter_context(own_process(dedicated))
            held[owner_of(dedicated, client.session_id)] = client, process
        pool = stack.enter_context(ThreadPoolExecutor())
        stack.enter_context(holding(model))
        for client, _ in held.values():
            requests = model.requests
            pool.submit(client.ask, _REQUEST, "first")
            model.wait_for_request(requests + 1)
        # From here on nobody asks for the sessions, so that nobody starts other processes for them.
        dedicated.kill("satmeter.scripts.server.front")
        with dedicated.paused(dedicated.descendants("ray::HostActor")[0]):
            with ExitStack() as pauses:
                for _, process in held.values():
                    pauses.enter_context(dedicated.paused(process))
                patiently(lambda: len(owners(dedicated)) == 1, "nobody takes its partitions over")
                model.let_go()
            (former,) = set(held) - owners(dedicated)
            client, process = held[former]
            patiently(lambda: knows_of_its_loss(said_by(dedicated, process)), "it goes on as if nothing had been")
            dedicated.wait_until_ready()
            others = set(dedicated.descendants("ray::DedicatedActor"))
            first = {client: client.ask(_REQUEST, "first")}
            (successor,) = set(dedicated.descendants("ray::DedicatedActor")) - others
            first |= {other: other.ask(_REQUEST, "first") for other, _ in held.values()}
            model.hold()
            requests = model.requests
            asking = pool.submit(client.ask, _REQUEST, "second")
            model.wait_for_request(requests + 1)
        patiently(lambda: len(owners(dedicated)) == 2, "the host that woke does not get its share back")
        assert successor in dedicated.descendants("ray::DedicatedActor"), (
            "the host that woke ended its successor's process"
        )
        model.let_go()
        second = asking.result(PATIENCE_S)
        for asked, answer in first.items():
            is_charged(asked, {"first": answer, "second": second} if asked is client else {"first": answer})
    audited(dedicated.data_dir)
    dedicated.stop()


@contextmanager
def own_process(server: Served) -> Iterator[tuple[Client, int]]:
    """A session that is paid for, and the pid of its process."""
    before = set(server.descendants("ray::DedicatedActor"))
    with session(server) as client:

        def new() -> set[int]:
            return set(server.descendants("ray::DedicatedActor")) - before

        # On a busy machine the first one may have been slow, and is being replaced.
        patiently(lambda: len(new()) == 1, "it has no process of its own")
        (process,) = new()
        yield client, process


@contextmanager
def holding(model: MessagesApi) -> Iterator[None]:
    """Hold the model's answers back while the block runs, unless they are let go."""
    model.hold()
    try:
        yield
    finally:
        model.let_go()


def said_by(server: Served, pid: int) -> str:
    """Return the log of one of its actors' processes."""
    return "\n".join(line for line in server.log().splitlines() if f'"pid": {pid}' in line)


def is_charged(client: Client, answers: dict[str, dict[str, Any]]) -> None:
    """Check that only these are charged, once each, and that each is answered under its key as it was."""
    assert client.settled()["spentMsat"] == sum(answer["debitedMsat"] for answer in answers.values())
    assert {key: client.ask(_REQUEST, key) for key in answers} == answers
    check_ledger(client)
