"""Destinations from any text: a normal form that is read as itself, with a web address, or a refusal."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from satmeter.actors.adapters.lnurl import messages
from satmeter.actors.domain.payments import bolt11_codec
from satmeter.actors.domain.payments.destinations import (
    UnfitDestinationError,
    encoded,
    is_destination,
    read_destination,
)
from satmeter.config.webhook_policy import TargetError, WebhookTargets
from tests.fuzz.mutations import broken

CODE = encoded("https://example.org/.well-known/lnurlp/me?a=b")
OFFER = (
    b'{"tag":"payRequest","callback":"https://example.org/c?d=e","minSendable":1000,"maxSendable":90000,'
    b'"metadata":"[[\\"text/plain\\",\\"x\\"]]","status":"OK"}'
)
WEB = re.compile(r"https?://[a-z0-9_.\[\]:-]+([/?][!-~]*)?", re.IGNORECASE)

words = st.one_of(
    st.just(bolt11_codec.decode(CODE)[1]).flatmap(broken).map(lambda found: bytes(word & 31 for word in found)),
    st.lists(st.integers(0, 31), max_size=200).map(bytes),
)
urls = st.builds(
    "{}{}".format,
    st.sampled_from(
        ["", "https://", "http://", "https://example.org", "HTTPS://[::1]", "https://a@b", "https://x?tag="]
    ),
    st.text(st.characters(max_codepoint=127), max_size=40),
)
texts = st.one_of(
    st.text(max_size=100),
    st.builds(
        "{}{}@{}{}".format,
        st.sampled_from(["", "lightning:", "LIGHTNING://", " "]),
        st.text("aZ9._+-%/?#\\\u212a ", max_size=12),
        st.text("aZ9.-:@/[]\u2024", max_size=12),
        st.sampled_from(["", ".org", ".onion", ":80", "/", "?x", "\n"]),
    ),
    st.builds(bolt11_codec.encode, st.sampled_from(["lnurl", "ln", "lnurlx"]), words),
    st.builds("{}{}".format, st.sampled_from(["lnurlp://", "LNURLP:", "lnurlw://", "https://x/?lightning="]), urls),
    urls.map(encoded),
    st.sampled_from(["@" * 4_000, "lnurl1" + "q" * 4_000, "https:" + "?lightning=" * 300, "lightning:" * 300]),
)


@given(texts)
def test_any_text_is_a_destination_or_a_refusal(text: str) -> None:
    is_destination(text)
    try:
        found = read_destination(text)
    except UnfitDestinationError:
        return
    assert is_destination(found.text) and read_destination(found.text) == found
    assert WEB.fullmatch(found.url) and found.text == found.text.lower()
    try:
        target = WebhookTargets().target(found.url, length_max=2_000)
    except TargetError:
        return
    assert target.scheme == "https" and target.port == 443


@given(st.just(OFFER).flatmap(broken))
def test_any_body_is_an_offer_or_none(body: bytes) -> None:
    failed = messages.failure(body)
    assert failed is None or (failed.text.isascii() and len(failed.text) <= 120)
    offered = messages.read(body, messages.PayRequest)
    assert offered is None or 0 <= offered.min_sendable < 2**63
