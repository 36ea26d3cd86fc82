"""Steps of a job as a client makes them, against a running server."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx

from tests.helpers.patience import PATIENCE_S
from tests.helpers.served import Served, patiently, wait_until


def served_at_last(send: Callable[[], httpx.Response]) -> httpx.Response:
    """The answer, once it is none that says to come again (503, or 425 for a refund that takes long)."""
    answers: list[httpx.Response] = []

    def served() -> bool:
        answers.append(send())
        again = answers[-1].status_code in (425, 503)
        assert not again or int(answers[-1].headers["Retry-After"]) > 0
        return not again

    patiently(served, "it is told to come again for ever")
    return answers[-1]


def create(server: Served, request: str = "Name three uses of a sextant.", key: str | None = None) -> dict[str, Any]:
    headers = {"Idempotency-Key": key} if key else {}
    answer = served_at_last(lambda: server.client.post("/jobs", json={"request": request}, headers=headers))
    assert answer.status_code == 201, answer.text
    body: dict[str, Any] = answer.json()
    return body


def pay(server: Served, invoice: dict[str, Any]) -> None:
    answer = served_at_last(lambda: server.client.post(f"/dev/stub/pay/{invoice['paymentHash']}"))
    assert answer.json()["paid"] is True


def pay_until_taken(server: Served, invoice: dict[str, Any]) -> None:
    """Pays, and asks again while the server can't take it."""

    def taken() -> bool:
        try:
            answer = server.client.post(f"/dev/stub/pay/{invoice['paymentHash']}")
        except (httpx.NetworkError, httpx.RemoteProtocolError):
            return False
        assert answer.status_code in (200, 503), answer.text
        return answer.status_code == 200

    patiently(taken, "the payment was not taken")


def job(server: Served, job_id: str) -> dict[str, Any]:
    answer = served_at_last(lambda: server.client.get(f"/jobs/{job_id}"))
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    return body


def wait_for(server: Served, job_id: str, state: str, timeout_s: float = PATIENCE_S) -> dict[str, Any]:
    def arrived() -> bool:
        answer = server.client.get(f"/jobs/{job_id}")
        return answer.status_code == 200 and bool(answer.json()["state"] == state)

    try:
        wait_until(arrived, timeout_s, state)
    except TimeoutError:
        raise TimeoutError(f"not {state}; the job is {job(server, job_id)}") from None
    return job(server, job_id)


def finish(server: Served, job_id: str) -> dict[str, Any]:
    waiting = wait_for(server, job_id, "awaiting_work_payment")
    pay(server, waiting["workInvoice"])
    return wait_for(server, job_id, "complete")
