"""Steps of a session as a client makes them, against a running server."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import msgspec

from tests.helpers.cluster.jobs import pay, served_at_last
from tests.helpers.patience import PATIENCE_S
from tests.helpers.served import Served, patiently


class Client:
    """A session's holder with one credential."""

    def __init__(self, server: Served, session_id: str, macaroon: str) -> None:
        self.session_id = session_id
        self.path = f"/sessions/{session_id}"
        self.http = httpx.Client(
            base_url=server.url,
            headers={"Authorization": f"Bearer {macaroon}"},
            timeout=PATIENCE_S,
            trust_env=False,
            limits=httpx.Limits(max_connections=None),
        )

    def show(self) -> dict[str, Any]:
        """The session, whose numbers must add up whenever they are read."""
        body = self._good(served_at_last(lambda: self.http.get(self.path)))
        refund = body["refund"]
        parts = (body["balanceMsat"], body["heldMsat"], body["spentMsat"], refund["owedMsat"], refund["paidMsat"])
        assert body["depositedMsat"] == sum(parts), body
        assert body["balanceMsat"] >= 0
        return body

    def post(self, what: str, body: dict[str, Any], key: str | None = None) -> httpx.Response:
        """One of the session's POSTs."""
        headers = {"Idempotency-Key": key} if key else {}
        return self.http.post(f"{self.path}/{what}", json=body, headers=headers)

    def ask(
        self, request: str = "Name three uses of a sextant.", key: str | None = None, **more: Any
    ) -> dict[str, Any]:
        """A request that is answered; repeated under its key for as long as the server says that it is away."""
        body, once = {"request": request, **more}, key or secrets.token_hex(16)
        return self._good(served_at_last(lambda: self.post("request", body, once)))

    def refunded(self, payment_request: str) -> httpx.Response:
        """The answer to closing the session, asked for again while the payment is under way."""
        return served_at_last(lambda: self.post("close", {"paymentRequest": payment_request}))

    @contextmanager
    def stream(self, request: str, **more: Any) -> Iterator[Iterator[tuple[str, dict[str, Any]]]]:
        """A request's events, none for one that the balance does not cover. Leaving the block is leaving the server."""
        body = {"request": request, "stream": True, **more}
        with self.http.stream("POST", f"{self.path}/request", json=body) as answer:
            assert answer.status_code in (200, 402), answer.read()
            yield _events(answer) if answer.status_code == 200 else iter(())

    def go_to(self, server: Served) -> None:
        """From now on, talks to this server."""
        self.http.base_url = httpx.URL(server.url)

    def ledger(self, page: int = 7) -> list[dict[str, Any]]:
        """All entries, in pages of so many."""
        found: list[dict[str, Any]] = []
        while True:
            after = found[-1]["seq"] if found else 0
            page_of = {"after": after, "limit": page}
            got = served_at_last(lambda page_of=page_of: self.http.get(f"{self.path}/ledger", params=page_of))  # type: ignore[misc]
            entries = self._good(got)["entries"]
            if not entries:
                return found
            found += entries

    def settled(self) -> dict[str, Any]:
        """The session once nothing is held any more."""
        patiently(lambda: self.show()["heldMsat"] == 0, "something stays held")
        return self.show()

    def close(self) -> None:
        """Ends connections."""
        self.http.close()

    @staticmethod
    def _good(answer: httpx.Response) -> dict[str, Any]:
        assert answer.status_code in (200, 201), answer.text
        body: dict[str, Any] = answer.json()
        return body


def _events(answer: httpx.Response) -> Iterator[tuple[str, dict[str, Any]]]:
    name = ""
    for line in answer.iter_lines():
        if line.startswith("event: "):
            name = line.removeprefix("event: ")
        elif line.startswith("data: "):
            yield name, msgspec.json.decode(line.removeprefix("data: "))


@contextmanager
def session(server: Served, amount_sats: int = 1_000) -> Iterator[Client]:
    """A session whose deposit has settled, by payment alone."""
    created = served_at_last(lambda: server.client.post("/sessions", json={"amountSats": amount_sats}))
    assert created.status_code == 201, created.text
    body = created.json()
    client = Client(server, body["sessionId"], body["macaroon"])
    try:
        pay(server, body["depositInvoice"])
        patiently(lambda: client.show()["state"] == "active", "the deposit did not arrive")
        yield client
    finally:
        client.close()


def check_ledger(client: Client, page: int = 7) -> None:
    """The ledger must tell the same as the session."""
    entries, shown = client.ledger(page), client.show()
    assert [entry["seq"] for entry in entries] == list(range(1, len(entries) + 1))
    sign = {"deposit": 1, "hold": -1, "debit": 0, "release": 1, "refund": -1}
    balance = 0
    for entry in entries:
        balance += sign[entry["kind"]] * entry["amountMsat"]
        assert entry["balanceMsat"] == balance >= 0
    assert balance == shown["balanceMsat"]
    assert sum(entry["amountMsat"] for entry in entries if entry["kind"] == "debit") == shown["spentMsat"]
    assert sum(entry["amountMsat"] for entry in entries if entry["kind"] == "deposit") == shown["depositedMsat"]
