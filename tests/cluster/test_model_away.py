"""A model provider that is not there when a server starts, comes, goes away with jobs under way, and comes back."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.conftest import HOSTS
from tests.helpers.cluster.commands import audited
from tests.helpers.cluster.jobs import create, job, pay, wait_for
from tests.helpers.cluster.sessions import session
from tests.helpers.patience import PATIENCE_S
from tests.helpers.served import MessagesApi, Served, wait_until

# A probe each 15 s at most, a job's next try 15 s after, and a machine that is busy with more than this.
BACK_WITHIN_S = 30 + PATIENCE_S
NEW_JOB = {"request": "Name three uses of a sextant."}


@pytest.fixture
def model() -> Iterator[MessagesApi]:
    """One of this test's own, since it goes away."""
    api = MessagesApi()
    yield api
    api.close()


def begin(data_dir: Path, model: MessagesApi, placement: str) -> Served:
    """A server that says that it serves."""
    environment = {
        "ANTHROPIC_API_KEY": "test",
        "ANTHROPIC_BASE_URL": model.url,
        "SATMETER_HOSTS": HOSTS[placement],
        "SATMETER_PLACEMENT": placement,
    }
    server = Served(data_dir, environment)
    wait_until(lambda: "Satmeter serves at" in server.log(), 2 * PATIENCE_S, "the server did not come up")
    server.descendants()
    return server


def unready(server: Served) -> list[str]:
    """The parts that readiness names."""
    answer = server.client.get("/readyz")
    return [] if answer.status_code == 200 else list(answer.json()["unreachable"])


def sells(server: Served) -> bool:
    """Return whether a job can be bought."""
    answer = server.client.post("/jobs", json=NEW_JOB)
    assert answer.status_code in (201, 503), answer.text
    return answer.status_code == 201


def waits(server: Served, job_id: str) -> bool:
    """Return whether the job waits for the model."""
    return job(server, job_id).get("waitingFor") == "model"


@pytest.mark.parametrize("placement", ["shared", "dedicated"])
def test_what_was_paid_waits_for_the_model_and_nothing_is_sold_meanwhile(
    data_dir: Path, model: MessagesApi, placement: str
) -> None:
    model.go_away()
    server = begin(data_dir, model, placement)
    try:
        assert unready(server) == ["model"] and "model provider can't be reached" in server.log()
        assert server.client.post("/sessions", json={"amountSats": 1_000}).status_code == 503
        assert not sells(server) and model.requests == 0
        model.come_back()
        wait_until(lambda: not unready(server), BACK_WITHIN_S, "the provider's return was not noticed")
        quoted = create(server)["jobId"]
        pay(server, job(server, quoted)["evalInvoice"])
        wait_for(server, quoted, "awaiting_work_payment")
        new = create(server)["jobId"]
        with session(server, 5_000) as client:
            client.ask("hello")
            spent = client.settled()["spentMsat"]
            model.go_away()
            pay(server, job(server, quoted)["workInvoice"])
            pay(server, job(server, new)["evalInvoice"])
            wait_until(lambda: waits(server, quoted) and waits(server, new), PATIENCE_S, "the jobs do not wait")
            wait_until(lambda: unready(server) == ["model"], PATIENCE_S, "the outage was not noticed")
            wait_until(lambda: not sells(server), PATIENCE_S, "jobs were still sold")
            assert client.post("request", {"request": "hello"}).status_code == 503
            shown = client.settled()
            assert (shown["spentMsat"], shown["heldMsat"]) == (spent, 0)
        # All processes die, and the next ones have the wait from the store.
        server.stop(signal.SIGKILL)
        server.close()
        server = begin(data_dir, model, placement)
        assert unready(server) == ["model"] and not sells(server)
        assert {job(server, quoted)["state"], job(server, new)["state"]} == {"executing", "evaluating"}
        asked = model.requests
        model.come_back()
        wait_for(server, new, "awaiting_work_payment", BACK_WITHIN_S)
        done = wait_for(server, quoted, "complete", BACK_WITHIN_S)
        assert "waitingFor" not in done and model.requests == asked + 2, "an attempt was made twice"
        wait_until(lambda: sells(server), BACK_WITHIN_S, "nothing is sold although the model is back")
        assert server.log().count('"event": "model_provider_down"') == 1
        server.stop()
    finally:
        server.close()
    audited(data_dir)
