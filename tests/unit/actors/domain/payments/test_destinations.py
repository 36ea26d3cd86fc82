"""Destinations of refunds: addresses and codes in any form that wallets show, and all others told by their name."""

from __future__ import annotations

import pytest

from satmeter.actors.domain.payments.destinations import (
    URL_LENGTH_MAX,
    Destination,
    DestinationFault,
    DestinationKind,
    UnfitDestinationError,
    encoded,
    is_destination,
    read_destination,
)

# The example of LUD-01.
SERVICE = "https://service.com/api?q=3fc3645b439ce8e7f2553a69e5267081d96dcd340693afabe04be7b0ccd178df"
CODE = (
    "LNURL1DP68GURN8GHJ7UM9WFMXJCM99E3K7MF0V9CXJ0M385EKVCENXC6R2C35XVUKXEFCV5MKVV34X5EKZD3EV56NYD3HXQURZEPEXEJXXEPNXSCRV"
    "WFNV9NXZCN9XQ6XYEFHVGCXXCMYXYMNSERXFQ5FNS"
)


@pytest.mark.parametrize(
    ("given", "text", "url"),
    [
        ("me@example.org", "me@example.org", "https://example.org/.well-known/lnurlp/me"),
        (" Me@Example.ORG\n", "me@example.org", "https://example.org/.well-known/lnurlp/me"),
        ("lightning:me@example.org", "me@example.org", "https://example.org/.well-known/lnurlp/me"),
        ("LIGHTNING://me@example.org", "me@example.org", "https://example.org/.well-known/lnurlp/me"),
        ("me+jobs@example.org", "me+jobs@example.org", "https://example.org/.well-known/lnurlp/me+jobs"),
        ("a.b_c-9@x-y.example.org", "a.b_c-9@x-y.example.org", "https://x-y.example.org/.well-known/lnurlp/a.b_c-9"),
        ("_@example.org", "_@example.org", "https://example.org/.well-known/lnurlp/_"),
        ("me@xn--bcher-kva.example", "me@xn--bcher-kva.example", "https://xn--bcher-kva.example/.well-known/lnurlp/me"),
        ("me@example.org:8443", "me@example.org:8443", "https://example.org:8443/.well-known/lnurlp/me"),
        # This machine has no TLS; nothing but the operator's setting lets it be asked.
        ("me@localhost:3000", "me@localhost:3000", "http://localhost:3000/.well-known/lnurlp/me"),
        ("me@127.0.0.1:3000", "me@127.0.0.1:3000", "http://127.0.0.1:3000/.well-known/lnurlp/me"),
    ],
)
def test_an_address_is_asked_at_its_domain(given: str, text: str, url: str) -> None:
    assert is_destination(given)
    assert read_destination(given) == Destination(DestinationKind.ADDRESS, text)
    assert read_destination(given).url == url
    assert read_destination(text) == read_destination(given)


@pytest.mark.parametrize(
    "given",
    [
        CODE,
        CODE.lower(),
        f"lightning:{CODE}",
        f"LIGHTNING:{CODE}",
        f"lightning://{CODE.lower()}",
        f" {CODE[:40]}\n{CODE[40:]}\t",
        f"https://service.com/gift?id=1&lightning={CODE}",
        f"bitcoin:1BoatSLRHtKNngkdXEeobR76b53LETtpyT?amount=1&lightning={CODE}&a=b",
        f"lnurlp://{SERVICE.removeprefix('https://')}",
        f"LNURLP:{SERVICE.removeprefix('https://')}",
    ],
)
def test_a_code_is_the_same_in_any_form(given: str) -> None:
    assert is_destination(given)
    assert read_destination(given) == Destination(DestinationKind.LNURL, CODE.lower())
    assert read_destination(given).url == SERVICE


@pytest.mark.parametrize(
    ("given", "fault"),
    [
        ("me@", DestinationFault.MALFORMED),
        ("@example.org", DestinationFault.MALFORMED),
        ("me@example", DestinationFault.MALFORMED),
        ("me@a@example.org", DestinationFault.MALFORMED),
        ("me@example.org other@example.org", DestinationFault.MALFORMED),
        ("me @example.org", DestinationFault.MALFORMED),
        ("..@example.org", DestinationFault.MALFORMED),
        ("a/../b@example.org", DestinationFault.MALFORMED),
        ("me%2f@example.org", DestinationFault.MALFORMED),
        ("me?x@example.org", DestinationFault.MALFORMED),
        ("me@example.org/x", DestinationFault.MALFORMED),
        ("me@example.org:0", DestinationFault.MALFORMED),
        ("me@-example.org", DestinationFault.MALFORMED),
        ("me@exam\u212ale.org", DestinationFault.MALFORMED),
        ("me@b\u00fccher.example", DestinationFault.MALFORMED),
        ("m" * 65 + "@example.org", DestinationFault.MALFORMED),
        ("me@" + "x" * 5_000 + ".org", DestinationFault.MALFORMED),
        (CODE[:-1], DestinationFault.MALFORMED),
        (CODE[:-1] + "Q", DestinationFault.MALFORMED),
        (CODE[:30] + CODE[30:].lower(), DestinationFault.MALFORMED),
        (encoded("ftp://example.org/x"), DestinationFault.MALFORMED),
        (encoded("https://user@example.org/x"), DestinationFault.MALFORMED),
        (encoded("https://example.org/a b"), DestinationFault.MALFORMED),
        (encoded("https://"), DestinationFault.MALFORMED),
        ("lnurlp://", DestinationFault.MALFORMED),
        ("lnurlp://example.org/" + "x" * URL_LENGTH_MAX, DestinationFault.MALFORMED),
        (encoded("https://example.org/?tag=login&k1=ab"), DestinationFault.WRONG_KIND),
        (encoded("https://example.org/?k1=ab&tag=withdrawRequest"), DestinationFault.WRONG_KIND),
        ("lnurlw://example.org/x", DestinationFault.WRONG_KIND),
        ("lnurlc://example.org/x", DestinationFault.WRONG_KIND),
        ("keyauth://example.org/x", DestinationFault.WRONG_KIND),
        ("https://example.org/.well-known/lnurlp/me", DestinationFault.WRONG_KIND),
        ("lno1pqps7sjqpgtyzm3qv4uxzmtsd3jjqer9wd3hy6tsw35k7msjzfpy7nz5yqcn", DestinationFault.OFFER),
        ("lightning:LNO1PQPS7SJ", DestinationFault.OFFER),
        ("me@abcdefghij.onion", DestinationFault.NOT_PUBLIC),
        (encoded("http://abcdefghij.onion/x"), DestinationFault.NOT_PUBLIC),
        ("lnurlp://abcdefghij.onion/x", DestinationFault.NOT_PUBLIC),
    ],
)
def test_all_others_are_told_apart(given: str, fault: DestinationFault) -> None:
    assert is_destination(given)
    with pytest.raises(UnfitDestinationError) as raised:
        read_destination(given)
    assert raised.value.fault is fault
    assert raised.value.told.startswith("This ") and not raised.value.told.endswith(".")


@pytest.mark.parametrize(
    "given",
    [
        "",
        "lnbc1pvjluezpp5",
        "lightning:lnbc1pvjluezpp5",
        "bitcoin:1BoatSLRHtKNngkdXEeobR76b53LETtpyT?lightning=LNBC1PV&label=me@example.org",
        "bitcoin:1BoatSLRHtKNngkdXEeobR76b53LETtpyT?label=me@example.org",
        "bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4",
    ],
)
def test_an_invoice_is_no_destination(given: str) -> None:
    assert not is_destination(given)
