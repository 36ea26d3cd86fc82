"""Gate before a request's work."""

from __future__ import annotations

from typing import Any

import pytest

from satmeter.actors.domain.errors import Code, RefusedError
from satmeter.config.settings import Settings
from satmeter.http.edge.connections import CONNECTION
from satmeter.http.edge.gate import Gate, watch
from satmeter.http.edge.limits import limits_of
from satmeter.http.edge.networks import Origin, origin_of
from satmeter.http.request_facts import note_paid

RATE = 5
BURST = 10 * RATE


class Clock:
    now_s = 1_000.0

    def __call__(self) -> float:
        return self.now_s


class Connection:
    held_s = 0.0
    welcomed = False

    def welcome(self) -> None:
        self.welcomed = True

    def hold(self, seconds: float) -> None:
        self.held_s = seconds


class Front:
    """A gate, and clients that come to it."""

    def __init__(self, **settings: Any) -> None:
        self.clock = Clock()
        limits = limits_of(Settings(**{"requests_per_ip": RATE, **settings}))
        self.gate = Gate(limits, self._origin, self.clock)

    def _origin(self, scope: Any) -> Origin:
        return origin_of(scope["client"][0])

    def ask(
        self, host: str, key: str | None = None, *, status: int = 200, paid: bool = False, sent_bytes: int = 0
    ) -> Code | None:
        """One request: why it was refused, or None."""
        scope = scope_of(host, key)
        try:
            visit = self.gate.enter(scope)
        except RefusedError as error:
            return error.refusal.code if error.refusal.retry_after_s else None
        if paid:
            note_paid(scope)
        self.gate.leave(scope, visit, status, sent_bytes)
        return None

    def fit(self, host: str, key: str | None = None, **answered: Any) -> int:
        """The number of requests until one is refused."""
        return next(n for n in range(10_000) if self.ask(host, key, **answered) is not None)


def scope_of(host: str, key: str | None = None) -> dict[str, Any]:
    headers = [(b"host", b"x")] if key is None else [(b"host", b"x"), (b"authorization", key.encode())]
    return {"type": "http", "method": "GET", "headers": headers, "client": (host, 5_000), "query_string": b""}


def test_a_long_answer_counts_as_many_requests_and_one_that_is_paid_for_as_one() -> None:
    # 15 for its 240 KiB, and the request itself; the last one is given while there is anything left.
    assert Front().fit("192.0.2.1", sent_bytes=15 * 16_384) == -(-BURST // 16)
    assert Front().fit("192.0.2.1", sent_bytes=16_384) == BURST
    payer = Front()
    assert [payer.ask("192.0.2.3", "Bearer x", paid=True, sent_bytes=10**9) for _ in range(3)] == [None] * 3


def test_long_answers_of_an_address_leave_room_for_others() -> None:
    front = Front()
    front.fit("192.0.2.1", sent_bytes=10**9)
    front.clock.now_s += 2
    assert front.ask("192.0.2.1") is Code.RATE_LIMITED
    assert front.ask("192.0.2.2") is None


def test_an_address_has_a_burst_and_then_its_rate() -> None:
    front = Front()
    assert front.fit("192.0.2.1") == BURST
    assert front.ask("192.0.2.1") is Code.RATE_LIMITED
    assert front.fit("192.0.2.2", "Bearer x") == BURST
    front.clock.now_s += 2
    assert front.fit("192.0.2.1") == 2 * RATE


def test_the_64s_of_one_48_have_four_times_as_much() -> None:
    front = Front()
    asked = [front.fit(f"2001:db8:1:{number}::1", "Bearer x") for number in range(6)]
    assert asked == [BURST] * 4 + [0] * 2
    assert front.fit("2001:db8:2::1", "Bearer x") == BURST


def test_all_strangers_have_an_end_which_those_that_ask_little_do_not_feel() -> None:
    front = Front()
    asked = [front.fit(f"192.0.2.{number}") for number in range(8)]
    assert sum(asked) < 2 * BURST
    assert front.ask("192.0.2.7") is Code.OVERLOADED
    assert front.ask("198.51.100.1") is None
    assert front.ask("198.51.100.2", "Bearer one that was bought") is None


def test_more_is_asked_for_a_post_and_for_a_long_body() -> None:
    def posts(length: bytes) -> int:
        front, number = Front(), 0
        while True:
            scope = {**scope_of("192.0.2.1", "Bearer x"), "method": "POST"}
            scope["headers"].append((b"content-length", length))
            try:
                front.gate.enter(scope)
            except RefusedError:
                return number
            number += 1

    assert posts(b"100") == BURST // 5
    assert posts(b"100000") < 7


def test_a_long_query_counts_as_many_requests() -> None:
    front = Front(requests_per_ip=50)
    scope = {**scope_of("192.0.2.1"), "query_string": b"a&" * 32_000}
    asked = 0
    while asked < 100:
        try:
            front.gate.enter(scope)
        except RefusedError:
            break
        asked += 1
    # Five hundred short ones.
    assert asked == 16


def test_those_who_have_paid_are_not_throttled_by_their_neighbours() -> None:
    front = Front()
    assert front.ask("192.0.2.1", "Bearer paid", paid=True) is None
    front.fit("192.0.2.1")
    assert front.ask("192.0.2.1") is Code.RATE_LIMITED
    assert [front.ask("192.0.2.1", "Bearer paid") for _ in range(1_000)] == [None] * 1_000


def test_a_paying_client_that_only_errs_is_a_stranger_again() -> None:
    front = Front()
    front.ask("192.0.2.1", "Bearer paid", paid=True)
    asked = front.fit("192.0.2.1", "Bearer paid", status=402)
    assert asked <= BURST
    assert front.ask("192.0.2.1", "Bearer paid") is Code.RATE_LIMITED


def test_wrong_credentials_are_bounded_for_each_address_and_in_all() -> None:
    front = Front(requests_per_ip=1_000)
    assert front.fit("192.0.2.1", "Bearer wrong", status=401) == 20
    asked = [front.fit(f"192.0.2.{number}", "Bearer wrong", status=401) for number in range(2, 12)]
    assert sum(asked) < 100
    # One that sends its first is let in all the same, as it may be a new client.
    assert front.ask("198.51.100.1", "Bearer one that was bought") is None


def test_a_connection_that_asks_too_often_is_not_read_for_a_while() -> None:
    front, connection = Front(requests_per_ip=1), Connection()
    front.fit("192.0.2.1")
    with pytest.raises(RefusedError) as raised:
        front.gate.enter({**scope_of("192.0.2.1"), CONNECTION: connection})
    assert raised.value.refusal.retry_after_s == 1
    assert connection.held_s == 1


def test_the_connection_of_a_known_payer_is_kept_from_the_beginning_of_its_request() -> None:
    front, connection = Front(), Connection()
    scope = {**scope_of("192.0.2.1", "Bearer paid"), CONNECTION: connection}
    visit = front.gate.enter(scope)
    assert not connection.welcomed
    note_paid(scope)
    front.gate.leave(scope, visit, 200)
    front.gate.enter({**scope_of("192.0.2.1", "Bearer paid"), CONNECTION: connection})
    assert connection.welcomed


def test_requests_under_way_are_bounded_by_address() -> None:
    front = Front(connections_per_ip=3)
    visits = [(scope := scope_of("192.0.2.1"), front.gate.enter(scope)) for _ in range(3)]
    assert front.ask("192.0.2.1") is Code.RATE_LIMITED
    assert front.ask("192.0.2.2") is None
    front.gate.leave(*visits[0], 200)
    assert front.ask("192.0.2.1") is None


def test_event_streams_are_bounded_until_they_end() -> None:
    front = Front(streams_per_ip=2)
    open_ones = []
    for _ in range(2):
        scope = scope_of("192.0.2.1")
        open_ones.append((scope, front.gate.enter(scope)))
        watch(scope)
    scope = scope_of("192.0.2.1")
    visit = front.gate.enter(scope)
    with pytest.raises(RefusedError) as raised:
        watch(scope)
    assert raised.value.refusal.code is Code.RATE_LIMITED
    front.gate.leave(scope, visit, 429)
    front.gate.leave(*open_ones[0], 200)
    scope = scope_of("192.0.2.1")
    front.gate.enter(scope)
    watch(scope)


def test_load_tests_pass() -> None:
    front = Front(rate_limits=False)
    assert [front.ask("192.0.2.1", "Bearer wrong", status=401) for _ in range(1_000)] == [None] * 1_000


def test_nothing_is_kept_of_strangers_while_only_payers_ask() -> None:
    front = Front()
    for number in range(20):
        assert front.ask(f"192.0.2.{number}", "Bearer wrong", status=401) is None
    assert front.ask("198.51.100.1", "Bearer good", paid=True) is None
    assert front.gate._requests is not None and front.gate._wrong is not None
    assert front.gate._requests.kept == 21 and front.gate._wrong.kept == 20
    front.clock.now_s += 3_600
    assert front.ask("198.51.100.1", "Bearer good", paid=True) is None
    assert front.gate._requests.kept == front.gate._wrong.kept == 0
