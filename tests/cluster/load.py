"""Clients that go on asking whatever happens to the servers, as clients should: again, under the same key."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager

import httpx

from tests.cluster.sessions import Client, check_ledger, session
from tests.served import Served, wait_until

_ANSWERED_WITHIN_S = 60.0
_PAUSE_S = 0.05


class Load:
    """Threads, each with a session of its own, that ask one of the servers after the other.

    A connection that breaks and a 503 are tried again at the next server. Anything else than an answer is a `failure`.
    `at`: the numbers of the servers that clients know of. `longest_s`: how long the slowest answer took, with all
    attempts.
    """

    def __init__(self, servers: Mapping[int, Served], clients: Collection[Client]) -> None:
        self.at = set(servers)
        self.failures: list[str] = []
        self.longest_s = 0.0
        self._urls = {number: server.url for number, server in servers.items()}
        self._clients = list(clients)
        self._spent: dict[str, dict[str, int]] = {client.session_id: {} for client in clients}
        self._ending = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(client,), daemon=True) for client in clients]

    def start(self) -> None:
        """Begins to ask."""
        for thread in self._threads:
            thread.start()

    def end(self) -> None:
        """Returns once what has been asked is answered."""
        self._ending.set()
        for thread in self._threads:
            thread.join(_ANSWERED_WITHIN_S + 5)

    @property
    def answered(self) -> int:
        """How many requests have been answered."""
        return sum(len(spent) for spent in self._spent.values())

    def goes_on(self, requests: int = 20, timeout_s: float = 30.0) -> None:
        """Returns once so many more have been answered."""
        enough = self.answered + requests
        wait_until(lambda: self.answered >= enough or self.failures, timeout_s, "requests are not answered any more")

    def check(self) -> None:
        """Every request was answered, and charged once."""
        assert self.failures == []
        for client in self._clients:
            spent = self._spent[client.session_id]
            assert client.settled()["spentMsat"] == sum(spent.values())
            debits = [entry for entry in client.ledger(100) if entry["kind"] == "debit"]
            assert len(debits) == len(spent) > 0
            check_ledger(client, 100)

    def _run(self, client: Client) -> None:
        chance, number = random.Random(client.session_id), 0
        headers = {"Authorization": client.http.headers["Authorization"]}
        with httpx.Client(headers=headers, timeout=20, trust_env=False) as http:
            while not self._ending.is_set() and not self.failures:
                number += 1
                self._ask(http, client, f"request-{number}", chance)
                self._ending.wait(_PAUSE_S)

    def _ask(self, http: httpx.Client, client: Client, key: str, chance: random.Random) -> None:
        begun_s, last = time.monotonic(), "nothing"
        while time.monotonic() < begun_s + _ANSWERED_WITHIN_S:
            url = self._urls[chance.choice(sorted(self.at))]
            body = {"request": key, "maxTokens": 50}
            try:
                answer = http.post(f"{url}{client.path}/request", json=body, headers={"Idempotency-Key": key})
            except httpx.HTTPError as error:
                last = type(error).__name__
            else:
                if answer.status_code == 200:
                    self._spent[client.session_id][key] = answer.json()["debitedMsat"]
                    self.longest_s = max(self.longest_s, time.monotonic() - begun_s)
                    return
                last = answer.text
                if answer.status_code != 503:
                    break
            self._ending.wait(_PAUSE_S)
        self.failures.append(f"{key}: {last}")


@contextmanager
def load(servers: Mapping[int, Served], count: int = 4) -> Iterator[Load]:
    """So many clients at these servers, while the block runs; at its end their books must be right."""
    with ExitStack() as stack:
        at = list(servers.values())
        clients = [stack.enter_context(session(at[i % len(at)], 50_000)) for i in range(count)]
        running = Load(servers, clients)
        running.start()
        try:
            running.goes_on()
            yield running
        finally:
            running.end()
        here = next(servers[number] for number in sorted(running.at))
        for client in clients:
            client.go_to(here)
        running.check()
