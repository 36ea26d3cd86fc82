"""`satmeter serve` as its operator and its clients see it, on Ray, with processes dying."""

from __future__ import annotations

import re
import signal
from pathlib import Path

import pytest

from tests.helpers.cluster.jobs import create, finish, job, pay, wait_for
from tests.helpers.patience import PATIENCE_S
from tests.helpers.served import MessagesApi, Served, patiently, served


def kill_hosts(server: Served) -> None:
    victims = server.kill("ray::HostActor")
    patiently(lambda: not set(victims) & set(server.descendants()), "the killed hosts did not die")


def test_a_job_goes_from_invoice_to_result_over_ray(server: Served) -> None:
    created = create(server)
    pay(server, created["evalInvoice"])
    done = finish(server, created["jobId"])
    assert done["result"]
    ledger = done["costLedger"]
    assert ledger["chargedMsat"] + ledger["refundMsat"] == ledger["paidMsat"]
    assert ledger["paidMsat"] == done["pricingBreakdown"]["amountSats"] * 1_000


@pytest.mark.parametrize("state", ["awaiting_eval_payment", "evaluating", "awaiting_work_payment", "executing"])
def test_a_job_survives_sigkill_of_its_host_in_every_state(server: Served, model: MessagesApi, state: str) -> None:
    created = create(server)
    job_id, before = created["jobId"], model.requests
    if state == "awaiting_eval_payment":
        kill_hosts(server)
    if state == "evaluating":
        model.hold()
    pay(server, created["evalInvoice"])
    if state == "evaluating":
        model.wait_for_request(before + 1)
        kill_hosts(server)
        model.let_go()
    waiting = wait_for(server, job_id, "awaiting_work_payment")
    if state == "awaiting_work_payment":
        kill_hosts(server)
    if state == "executing":
        model.hold()
    pay(server, waiting["workInvoice"])
    if state == "executing":
        model.wait_for_request(before + 2)
        kill_hosts(server)
        model.let_go()
    done = wait_for(server, job_id, "complete")
    ledger = done["costLedger"]
    assert ledger["paidMsat"] == waiting["workInvoice"]["amountSats"] * 1_000
    assert 0 < ledger["chargedMsat"] <= ledger["paidMsat"]


def test_a_server_that_was_stopped_or_killed_goes_on_where_it_was(data_dir: Path) -> None:
    with served(data_dir) as server:
        says_what_is_real_and_what_to_try(server)
        refuses_a_port_that_is_taken(data_dir.parent / "second", server.port)
        created = create(server, key="once")
        pay(server, created["evalInvoice"])
        waiting = wait_for(server, created["jobId"], "awaiting_work_payment")
        server.stop()
        assert server.left_over() == []
    with served(data_dir) as killed:
        assert job(killed, created["jobId"]) == waiting
        assert create(killed, key="once") == created
        assert finish(killed, created["jobId"])["result"]
        other = create(killed)
        pay(killed, other["evalInvoice"])
        killed.stop(signal.SIGKILL)
    # On the same port and data, at once: what the killed one leaves behind must not be in the way.
    with served(data_dir, killed.port, SATMETER_HOSTS="1") as successor:
        assert finish(successor, other["jobId"])["result"]
        patiently(lambda: all_but_rays_agents(killed) == [], "something outlived the killed server")


def says_what_is_real_and_what_to_try(server: Served) -> None:
    patiently(lambda: "server_serves" in server.log(), "no banner")
    banner = server.log()
    assert server.url in banner and "stub" in banner and "curl -s" in banner


def refuses_a_port_that_is_taken(data_dir: Path, port: int) -> None:
    second = Served(data_dir, {}, port)
    assert second.process.wait(PATIENCE_S) == 1
    assert "--port" in second.log()
    second.close()


def test_a_server_over_the_store_of_one_that_was_killed_waits_for_nothing_of_it(data_dir: Path, store_url: str) -> None:
    with served(data_dir, REDIS_URL=store_url, SATMETER_HOSTS="1") as first:
        created = create(first)
        pay(first, created["evalInvoice"])
        first.stop(signal.SIGKILL)
    with served(data_dir, REDIS_URL=store_url, SATMETER_HOSTS="1") as second:
        assert finish(second, created["jobId"])["result"]
        second.stop()
        assert second.left_over() == []


def all_but_rays_agents(server: Served) -> list[str]:
    """Ray's two agents look for their lost cluster for a minute before they end; they hold nothing of ours."""
    return [name for name in server.left_over() if not re.match("ray::(Dashboard|RuntimeEnv)Agent", name)]
