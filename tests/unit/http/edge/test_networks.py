"""Networks by which clients are counted."""

from __future__ import annotations

import pytest

from satmeter.http.edge.networks import UNKNOWN, Origin, origin_of


@pytest.mark.parametrize(
    ("host", "origin"),
    [
        ("203.0.113.9", Origin("203.0.113.9", "")),
        ("::ffff:203.0.113.9", Origin("203.0.113.9", "")),
        ("2001:db8:1:2:3:4:5:6", Origin("20010db800010002/64", "20010db80001/48")),
        ("2001:db8:1:2::1", Origin("20010db800010002/64", "20010db80001/48")),
        ("no:address", UNKNOWN),
    ],
)
def test_a_client_is_its_ipv4_address_or_its_64(host: str, origin: Origin) -> None:
    assert origin_of(host) == origin
