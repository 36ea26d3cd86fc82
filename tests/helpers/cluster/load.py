"""Clients that go on asking whatever happens to the servers, as clients should: again, under the same key."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager

import httpx

from tests.helpers.cluster.sessions import Client, check_ledger, session
from tests.helpers.patience import PATIENCE_S
from tests.helpers.served import Served, patiently

_ANSWERED_WITHIN_S = 2 * PATIENCE_S
_PAUSE_S = 0.05


class Load:
    """Threads, each with a session of its own, that ask one of the servers after the other.

    A connection that breaks and a 503 are tried again at the next server. Anything else than an answer is a `failure`,
    and so is a 503 that doesn't say when to come again, or no answer at all. `at`: the numbers of the servers that
    clients know of. `refused`: how many 503 there were. `longest_s`: how long the slowest answer took, with all
    attempts; `slowest_attempt_s`: how long one attempt took, whatever came of it.
    """

    def __init__(self, servers: Mapping[int, Served], clients: Collection[Client]) -> None:
        self.at = set(servers)
        self.failures: list[str] = []
        self.refused = 0
        self.longest_s = 0.0
        self.slowest_attempt_s = 0.0
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
        """Count the requests that have been answered."""
        return sum(len(spent) for spent in self._spent.values())

    def goes_on(self, requests: int = 20) -> None:
        """Returns once so many more have been answered."""
        enough = self.answered + requests
        patiently(lambda: self.answered >= enough or self.failures, "requests are not answered any more")

    def back(self) -> float:
        """Returns once each client has been answered what it asked from now on; how long that took, in seconds."""
        begun_s = time.monotonic()
        # The first of the two may have been answered already, its word only not been read yet.
        enough = {session_id: len(spent) + 2 for session_id, spent in self._spent.items()}

        def all_are_answered() -> bool:
            return bool(self.failures) or all(len(self._spent[i]) >= count for i, count in enough.items())

        patiently(all_are_answered, "some client is not answered any more")
        return time.monotonic() - begun_s

    def are_told(self, refusals: int = 4) -> None:
        """Returns once so many more requests have been refused."""
        enough = self.refused + refusals
        patiently(lambda: self.refused >= enough or self.failures, "clients are left hanging")
        assert self.failures == []

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
        with httpx.Client(headers=headers, timeout=PATIENCE_S, trust_env=False) as http:
            while not self._ending.is_set() and not self.failures:
                number += 1
                self._ask(http, client, f"request-{number}", chance)
                self._ending.wait(_PAUSE_S)

    def _ask(self, http: httpx.Client, client: Client, key: str, chance: random.Random) -> None:
        begun_s, last = time.monotonic(), "nothing"
        while time.monotonic() < begun_s + _ANSWERED_WITHIN_S:
            url, sent_s = self._urls[chance.choice(sorted(self.at))], time.monotonic()
            body = {"request": key, "maxTokens": 50}
            try:
                answer = http.post(f"{url}{client.path}/request", json=body, headers={"Idempotency-Key": key})
            except httpx.ReadTimeout:
                last = f"no answer within {PATIENCE_S:.0f} s"
                break
            except httpx.HTTPError as error:
                last = type(error).__name__
            else:
                self.slowest_attempt_s = max(self.slowest_attempt_s, time.monotonic() - sent_s)
                if answer.status_code == 200:
                    self._spent[client.session_id][key] = answer.json()["debitedMsat"]
                    self.longest_s = max(self.longest_s, time.monotonic() - begun_s)
                    return
                last = answer.text
                if answer.status_code != 503 or int(answer.headers.get("Retry-After", 0)) < 1:
                    break
                self.refused += 1
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
