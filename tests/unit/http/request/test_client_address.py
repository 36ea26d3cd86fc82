"""Address of a request's client, and the proxies that may name it."""

from __future__ import annotations

from typing import Any

import pytest
from starlette.requests import HTTPConnection

from satmeter.http.request.client_address import ClientAddresses

KEY = b"a key of a test"


def connection(peer: str | None, *forwarded: str) -> HTTPConnection:
    headers = [(b"x-forwarded-for", value.encode()) for value in forwarded]
    scope: dict[str, Any] = {"type": "http", "client": (peer, 1) if peer else None, "headers": headers}
    return HTTPConnection(scope)


def address(clients: ClientAddresses, peer: str | None, *forwarded: str) -> str:
    return str(clients.address(connection(peer, *forwarded)))


def test_without_trusted_proxies_the_header_is_worth_nothing() -> None:
    assert address(ClientAddresses([], KEY), "203.0.113.5", "10.0.0.1") == "203.0.113.5"
    assert address(ClientAddresses([], KEY), "127.0.0.1", "10.0.0.1") == "127.0.0.1"


@pytest.mark.parametrize(
    ("forwarded", "expected"),
    [
        (["203.0.113.5"], "203.0.113.5"),
        (["1.1.1.1, 203.0.113.5"], "203.0.113.5"),
        (["1.1.1.1, 203.0.113.5, 10.0.0.9"], "203.0.113.5"),
        (["1.1.1.1", "203.0.113.5", "10.0.0.9"], "203.0.113.5"),
        (["10.0.0.7, 10.0.0.9"], "10.0.0.7"),
        (["203.0.113.5:4711"], "203.0.113.5"),
        (["[2001:db8::1]:4711"], "2001:db8::1"),
        (["2001:db8::1"], "2001:db8::1"),
        (["::ffff:203.0.113.5"], "203.0.113.5"),
        (["1.1.1.1, rubbish, 10.0.0.9"], "10.0.0.9"),
        (["1.1.1.1, unknown"], "10.0.0.2"),
        ([""], "10.0.0.2"),
        ([], "10.0.0.2"),
    ],
)
def test_the_entries_are_believed_from_the_right_while_their_writer_is_trusted(
    forwarded: list[str], expected: str
) -> None:
    clients = ClientAddresses(["10.0.0.0/24", "2001:db8:ffff::1"], KEY)
    assert address(clients, "10.0.0.2", *forwarded) == expected


def test_a_proxy_may_be_one_address_and_seen_over_a_dual_stack_socket() -> None:
    clients = ClientAddresses(["10.0.0.2"], KEY)
    assert address(clients, "::ffff:10.0.0.2", "203.0.113.5") == "203.0.113.5"
    assert address(clients, "10.0.0.3", "203.0.113.5") == "10.0.0.3"


def test_a_connection_without_an_address_is_one_client() -> None:
    clients = ClientAddresses([], KEY)
    assert address(clients, None, "203.0.113.5") == "None"
    assert clients.digest(connection(None)) == clients.digest(connection("not an address"))


def test_digests_tell_addresses_apart_but_not_those_of_one_ipv6_network() -> None:
    clients = ClientAddresses([], KEY)

    def digest(peer: str) -> str:
        return clients.digest(connection(peer))

    assert digest("203.0.113.5") != digest("203.0.113.6")
    assert digest("2001:db8:0:1::1") == digest("2001:db8:0:1:ffff::9")
    assert digest("2001:db8:0:1::1") != digest("2001:db8:0:2::1")
    assert digest("203.0.113.5") == digest("::ffff:203.0.113.5")


def test_a_digest_shows_no_address_and_depends_on_the_key() -> None:
    one = ClientAddresses([], KEY).digest(connection("203.0.113.5"))
    assert len(one) == 22 and "203" not in one
    assert one != ClientAddresses([], b"another").digest(connection("203.0.113.5"))


@pytest.mark.parametrize(
    ("peer", "told", "scheme"),
    [
        ("10.0.0.2", "https", "https"),
        ("10.0.0.2", "HTTPS, http", "https"),
        ("10.0.0.2", "gopher", "http"),
        ("10.0.0.2", None, "http"),
        ("203.0.113.5", "https", "http"),
        (None, "https", "http"),
    ],
)
def test_a_trusted_proxy_tells_the_scheme(peer: str | None, told: str | None, scheme: str) -> None:
    headers = [(b"x-forwarded-proto", told.encode())] if told is not None else []
    scope: dict[str, Any] = {
        "type": "http",
        "scheme": "http",
        "path": "/",
        "server": ("satmeter.test", 80),
        "client": (peer, 1) if peer else None,
        "headers": headers,
    }
    assert ClientAddresses(["10.0.0.0/24"], KEY).scheme(HTTPConnection(scope)) == scheme
