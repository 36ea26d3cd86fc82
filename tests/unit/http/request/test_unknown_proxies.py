"""Proxies in the operator's own network that SATMETER_TRUSTED_PROXIES does not name."""

from __future__ import annotations

from ipaddress import ip_address

import pytest
from starlette.datastructures import Headers
from structlog.testing import capture_logs

from satmeter.actors.domain.errors import Code, RefusedError
from satmeter.http.request.unknown_proxies import UnknownProxies

FORWARDED = Headers({"x-forwarded-for": "203.0.113.5"})


@pytest.mark.parametrize(
    "peer", ["127.0.0.1", "::1", "10.0.0.2", "172.18.0.3", "100.64.0.9", "fd00::1", "fe80::1", None]
)
@pytest.mark.parametrize("name", ["X-Forwarded-For", "Forwarded", "X-Real-IP"])
def test_what_a_peer_of_the_own_network_passes_on_is_refused(peer: str | None, name: str) -> None:
    proxies = UnknownProxies()
    with pytest.raises(RefusedError) as caught:
        proxies.refuse(ip_address(peer) if peer else None, Headers({name: "for=203.0.113.5"}))
    assert caught.value.refusal.code is Code.UNAVAILABLE and proxies.seen


@pytest.mark.parametrize(
    ("peer", "headers"),
    [
        ("8.8.8.8", FORWARDED),
        ("2606:4700::1", FORWARDED),
        ("127.0.0.1", Headers()),
        ("10.0.0.2", Headers({"via": "x"})),
    ],
)
def test_what_may_come_from_the_client_itself_is_not(peer: str, headers: Headers) -> None:
    proxies = UnknownProxies()
    proxies.refuse(ip_address(peer), headers)
    assert not proxies.seen


def test_the_log_names_the_setting_once() -> None:
    proxies = UnknownProxies()
    with capture_logs() as logs:
        for _ in range(3):
            with pytest.raises(RefusedError):
                proxies.refuse(ip_address("172.18.0.3"), FORWARDED)
    (entry,) = logs
    assert (entry["event"], entry["log_level"]) == ("proxy_not_trusted", "error")
    assert "SATMETER_TRUSTED_PROXIES=172.18.0.3" in entry["hint"]
