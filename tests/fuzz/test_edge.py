"""Bounds of what strangers take, under any order of what they do: counts come back to nothing, never below it."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from satmeter.actors.domain.errors import Code, RefusedError
from satmeter.http.edge.gate import Gate, Visit
from satmeter.http.edge.limits import Limits, Rate, Rates
from satmeter.http.edge.networks import Origin, origin_of
from satmeter.http.edge.shares import Caps, Shares
from satmeter.http.request_facts import note_paid

CAPS = Caps(2, 4, 6)
hosts = st.one_of(
    st.text(max_size=40),
    st.ip_addresses().map(str),
    st.builds("::ffff:{}".format, st.ip_addresses(v=4)),
    st.builds("{}%{}".format, st.ip_addresses(v=6), st.text(max_size=5)),
)
origins = st.sampled_from(
    [Origin("", ""), Origin("a", ""), Origin("b", ""), Origin("c/64", "c/48"), Origin("d/64", "c/48")]
)
headers = st.lists(
    st.tuples(
        st.sampled_from([b"authorization", b"x-api-key", b"content-length", b"x-forwarded-for"]),
        st.sampled_from([b"", b"Bearer a", b"b", b"c" * 3_000, b"12", b"\xb2", b"-1", b"9" * 5_000]),
    ),
    max_size=3,
)


def too_much(error: RefusedError) -> None:
    """Check that a refusal says when to come back."""
    assert error.refusal.code in (Code.RATE_LIMITED, Code.OVERLOADED)
    assert error.refusal.retry_after_s is not None and 1 <= error.refusal.retry_after_s < 1_000


@given(hosts)
def test_any_address_has_an_origin(host: str) -> None:
    origin = origin_of(host)
    assert isinstance(origin, Origin) and len(origin.wide) <= 15


@given(st.lists(st.tuples(origins, st.integers(1, 3), st.booleans()), max_size=60))
def test_shares_come_back_to_nothing(steps: list[tuple[Origin, int, bool]]) -> None:
    shares = Shares(CAPS)
    taken: list[tuple[Origin, int]] = []
    for origin, amount, gives_back in steps:
        if gives_back and taken:
            shares.give_back(*taken.pop())
        elif shares.take(origin, amount) is None:
            taken.append((origin, amount))
        assert shares.total == sum(held for _, held in taken) <= CAPS.all
        for key, most in (("a", CAPS.near), ("c/64", CAPS.near), ("c/48", CAPS.wide)):
            assert sum(held for whose, held in taken if key in whose) <= most
    for origin, amount in taken:
        shares.give_back(origin, amount)
    assert shares.total == 0 and not any(shares._held.values())


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["GET", "POST"]),
            origins,
            headers,
            st.sampled_from([200, 400, 401, 402, 404, 429, 500]),
            st.booleans(),
            st.floats(0, 5),
        ),
        max_size=40,
    )
)
def test_the_gate_lets_in_or_refuses_and_forgets_what_has_left(steps: list[tuple[Any, ...]]) -> None:
    now_s = [0.0]
    rates = Rates.of(Rate(1.0, 3.0), Rate(2.0, 4.0))
    limits = Limits(CAPS, CAPS, rates, rates, rates, rates)
    gate = Gate(limits, lambda scope: scope["origin"], lambda: now_s[0])
    under_way: list[tuple[dict[str, Any], Visit, int]] = []
    for method, origin, sent, status, pays, later_s in steps:
        now_s[0] += later_s
        scope: dict[str, Any] = {"type": "http", "method": method, "headers": sent, "origin": origin}
        try:
            visit = gate.enter(scope)
        except RefusedError as error:
            too_much(error)
            continue
        if pays:
            note_paid(scope)
        try:
            gate.watch(scope)
        except RefusedError as error:
            too_much(error)
        under_way.append((scope, visit, status))
        if len(under_way) > 3:
            gate.leave(*under_way.pop(0))
    for one in under_way:
        gate.leave(*one)
    assert gate._under_way.total == gate._streams.total == 0
