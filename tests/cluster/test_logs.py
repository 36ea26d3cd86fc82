"""The log of a real server: each line is an entry, and one id finds all that was done for a request."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.helpers.cluster.jobs import create, finish, pay
from tests.helpers.served import MessagesApi, Served, patiently, served

PROMPT = "Name three uses of a sextant, and of the word zymurgy."
Entry = dict[str, Any]


def entries(server: Served) -> list[Entry]:
    """The whole log, each line of which is JSON. The last one may be on its way."""
    lines = server.log().split("\n")[:-1]
    found = [json.loads(line) for line in lines]
    for entry in found:
        assert {"timestamp", "level", "event", "process", "pid"} <= entry.keys(), entry
    return found


def of_request(server: Served, request_id: str, *events: str) -> list[Entry]:
    """Return what `grep` finds of a request, once all of these events are there."""

    def found() -> list[Entry]:
        return [entry for entry in entries(server) if request_id in json.dumps(entry)]

    patiently(lambda: set(events) <= {entry["event"] for entry in found()}, f"{events} of {request_id}")
    return found()


def written(found: Sequence[Entry]) -> list[str]:
    return [name for entry in found if entry["event"] == "journal_written" for name in entry["events"]]


def test_one_id_finds_a_request_in_all_processes_and_no_line_has_a_secret(data_dir: Path, model: MessagesApi) -> None:
    with served(
        data_dir,
        SATMETER_HOSTS="1",
        SATMETER_LOG_LEVEL="info",
        SATMETER_LOG_REQUESTS="steps",
        ANTHROPIC_API_KEY="test",
        ANTHROPIC_BASE_URL=model.url,
    ) as server:
        secrets = a_session_is_followed(server, model)
        secrets += a_job_is_followed_by_the_beginning_of_its_id(server)
        server.stop()
        log, events = server.log(), [entry["event"] for entry in entries(server)]
    assert [secret for secret in secrets if secret in log] == []
    assert "pid=" not in log and "zymurgy" not in log
    assert (
        events[0] == "server_starting"
        and "server_serves" in events
        and events[-2:] == ["server_stopping", "server_stopped"]
    )


def a_session_is_followed(server: Served, model: MessagesApi) -> list[str]:
    opened = server.client.post("/sessions", json={"amountSats": 1_000})
    session, ids = opened.json(), [opened.headers["X-Request-Id"]]
    session_id, macaroon = session["sessionId"], session["macaroon"]
    pay(server, session["depositInvoice"])
    headers = {"Authorization": f"Bearer {macaroon}"}

    def active() -> bool:
        return bool(server.client.get(f"/sessions/{session_id}", headers=headers).json()["state"] == "active")

    # A request that comes before the treasury has the deposit looked for, and logs that as its own.
    patiently(active, "the deposit did not arrive")

    def ask() -> tuple[int, str]:
        answer = server.client.post(f"/sessions/{session_id}/request", json={"request": PROMPT}, headers=headers)
        ids.append(answer.headers["X-Request-Id"])
        return answer.status_code, ids[-1]

    opening = of_request(server, ids[0], "request_answered", "journal_written", "effect_done")
    assert {entry["session_id"] for entry in opening} == {session_id}
    assert {entry["process"].partition("-")[0] for entry in opening} == {"front", "host"}

    status, request_id = ask()
    assert status == 200
    good = of_request(server, request_id, "request_answered", "effect_done")
    assert written(good) == ["hold_placed", "request_finished"]
    (answered,) = [entry for entry in good if entry["process"] == "front"]
    assert (answered["event"], answered["status"], answered["session_id"]) == ("request_answered", 200, session_id)
    assert {entry["session_id"] for entry in good} == {session_id}

    model.refuses = True
    status, request_id = ask()
    model.refuses = False
    assert status == 502
    failed = of_request(server, request_id, "request_answered", "effect_failed")
    (why,) = [entry for entry in failed if entry["event"] == "effect_failed"]
    assert why["process"].startswith("host-") and why["session_id"] == session_id and why["error"]
    (answered,) = [entry for entry in failed if entry["event"] == "request_answered"]
    assert (answered["level"], answered["status"], answered["code"]) == ("warning", 502, "model_failed")
    assert written(failed) == ["hold_placed", "hold_released"]
    return [macaroon, session["depositInvoice"]["paymentRequest"]]


def a_job_is_followed_by_the_beginning_of_its_id(server: Served) -> list[str]:
    made = create(server, PROMPT)
    job_id = made["jobId"]
    pay(server, made["evalInvoice"])
    done = finish(server, job_id)
    short = f"{job_id[:14]}..."

    def found() -> list[Entry]:
        return [entry for entry in entries(server) if entry.get("job_id") == short]

    patiently(lambda: "job_completed" in written(found()), "the job's last event is not logged")
    assert {entry.get("intent") for entry in found()} >= {"IssueInvoice", "Evaluate", "Work"}
    (creation,) = [entry for entry in found() if entry.get("status") == 201]
    assert written(of_request(server, creation["request_id"], "journal_written"))
    return [job_id, made["evalInvoice"]["paymentRequest"], done["result"]]
