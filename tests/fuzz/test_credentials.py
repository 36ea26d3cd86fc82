"""Credentials from any bytes: refused in order, never valid once changed, never wider once narrowed."""

from __future__ import annotations

import base64
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import SecretStr
from starlette.requests import Request

from satmeter.actors.domain.credentials import macaroon
from satmeter.actors.domain.credentials.caveats import Action, CaveatError, Grant
from satmeter.actors.domain.credentials.macaroon import InvalidMacaroonError
from satmeter.actors.domain.errors import Code, RefusedError
from satmeter.http.request.auth import Credentials, Holder
from satmeter.http.request.idempotency import attempt_of, idempotency_key, operation_key_of
from satmeter.http.request.operator import admit_operator
from tests.fuzz.mutations import broken
from tests.helpers.credentials import KEY, MACAROON_ID, ROOT, appended

NARROW = appended(ROOT, "max_msat = 1000", "actions = request,read", "expires_at = 2000", "name = a")
GOOD = (ROOT, NARROW)
TIMES_MS = (0, 1_000_000, 1_999_999, 2_000_000, 10**15)
SESSION = MACAROON_ID.session_id

caveat_texts = st.one_of(
    st.text(max_size=30),
    st.builds(
        "{}{}{}".format,
        st.sampled_from(["max_msat", "max_msat_per", "max_msat_per_request", "expires_at", "actions", "name", "other"]),
        st.sampled_from([" = ", "=", " =", "= ", "  =  ", ""]),
        st.one_of(
            st.sampled_from(
                ["0", "5", "-1", "1e3", "10/hour", "10/day", "1/month", "9" * 18, "9" * 19, "read", "llm,read"]
            ),
            st.text(max_size=12),
            st.integers(-5, 10**20).map(str),
        ),
    ),
)
tokens = st.one_of(
    st.text(max_size=60),
    st.binary(max_size=200).map(lambda raw: base64.b64encode(raw).decode()),
    st.binary(max_size=200).map(lambda raw: base64.urlsafe_b64encode(raw).decode().rstrip("=")),
    st.sampled_from(GOOD),
    st.sampled_from(GOOD).flatmap(lambda good: broken(good.encode())).map(lambda raw: raw.decode("latin-1")),
    st.sampled_from(GOOD)
    .flatmap(lambda good: broken(base64.b64decode(good)))
    .map(lambda raw: base64.b64encode(raw).decode()),
    st.sampled_from(["A" * 8_193, "=" * 50, "A" * 9_000]),
)


@given(tokens)
def test_any_text_is_read_or_refused_and_what_is_valid_is_what_was_minted(token: str) -> None:
    with suppress(InvalidMacaroonError):
        macaroon.read(token)
    with suppress(InvalidMacaroonError, CaveatError):
        macaroon.read_grant(token)
    with suppress(InvalidMacaroonError, CaveatError):
        found, grant = macaroon.verify(KEY, token)
        # Only the place that it names, and how its bytes are written, are not signed.
        assert found == MACAROON_ID
        assert grant in [macaroon.verify(KEY, good)[1] for good in GOOD]
        assert macaroon.verify_by_any([bytes(32), KEY], token) == (found, grant, 1)


@given(st.sampled_from(GOOD), st.integers(0, 7), st.data())
def test_a_credential_with_any_bit_of_its_signed_bytes_turned_is_not_valid(
    good: str, bit: int, data: st.DataObject
) -> None:
    raw = bytearray(base64.b64decode(good))
    at = data.draw(st.integers(0, len(raw) - 1))
    raw[at] ^= 1 << bit
    changed = base64.b64encode(bytes(raw)).decode()
    place = base64.b64decode(good).index(b"satmeter")
    try:
        found, grant = macaroon.verify(KEY, changed)
    except (InvalidMacaroonError, CaveatError):
        return
    assert (found, grant) == macaroon.verify(KEY, good)
    assert place <= at < place + len(b"satmeter")


def per_request(grant: Grant) -> int:
    limit = grant.max_msat_per_request
    return 10**30 if limit is None else limit.value


@given(st.lists(caveat_texts, max_size=4), st.lists(caveat_texts, min_size=1, max_size=4))
@example([], ["actions = "])
@example([], ["name = \ud800"])
@example([], ["x" * 70_000])
def test_whatever_is_appended_makes_it_narrower_or_useless(before: list[str], more: list[str]) -> None:
    try:
        wide_token = macaroon.attenuate(ROOT, before)
        _, wide = macaroon.verify(KEY, wide_token)
    except (InvalidMacaroonError, CaveatError):
        wide_token, wide = ROOT, macaroon.verify(KEY, ROOT)[1]
    try:
        _, narrow = macaroon.verify(KEY, macaroon.attenuate(wide_token, more))
    except (InvalidMacaroonError, CaveatError):
        return
    for action in Action:
        for at_ms in TIMES_MS:
            assert wide.refusal(action, at_ms) is None or narrow.refusal(action, at_ms) is not None
    assert per_request(narrow) <= per_request(wide)
    assert narrow.spend_limits[: len(wide.spend_limits)] == wide.spend_limits
    assert narrow.lineage[: len(wide.lineage)] == wide.lineage


@given(tokens, st.lists(caveat_texts, max_size=3))
def test_anything_is_narrowed_or_refused(token: str, caveats: list[str]) -> None:
    with suppress(InvalidMacaroonError, CaveatError):
        macaroon.narrowed(token, caveats)


# Headers

raw_values = st.one_of(
    st.binary(max_size=60),
    st.sampled_from([b"", b" ", b"Bearer", b"Bearer ", b"bearer  x", b"L402 ", b"LSAT :", b"Basic YTpi", b"\xff\xfe"]),
    st.builds(
        lambda scheme, space, token, rest: scheme + space + token.encode("latin-1", "replace") + rest,
        st.sampled_from([b"Bearer", b"bearer", b"L402", b"lsat", b"LSAT", b"Basic", b"", b"Bearer Bearer"]),
        st.sampled_from([b" ", b"  ", b"\t", b""]),
        tokens,
        st.sampled_from(
            [b"", b":", b":" + b"07" * 32, b":" + b"zz" * 32, b":" + b"7" * 63, b":a:b", b" ", b"\t", b","]
        ),
    ),
)
names = st.sampled_from([b"authorization", b"x-api-key", b"idempotency-key", b"x-stainless-retry-count"])


OF_CREDENTIALS = (Code.MISSING_CREDENTIAL, Code.INVALID_CREDENTIAL, Code.CAVEAT_VIOLATED, Code.NOT_FOUND)


def refused_as(error: RefusedError, *codes: Code) -> None:
    """Check the code of a refusal."""
    assert error.refusal.code in codes


class _Route:
    path = "/sessions/{sessionId}/request"


def request_of(headers: list[tuple[bytes, bytes]], session_id: str = SESSION) -> Request:
    scope: dict[str, Any] = {
        "type": "http",
        "method": "POST",
        "path": "/sessions/x/request",
        "query_string": b"",
        "headers": headers,
        "path_params": {"sessionId": session_id},
        "route": _Route,
        "server": ("x", 80),
        "scheme": "http",
    }
    return Request(scope)


@given(
    st.lists(st.tuples(names, raw_values), max_size=4),
    st.one_of(st.just(SESSION), st.text(max_size=40)),
    st.sampled_from([None, KEY, bytes(32)]),
)
def test_any_headers_are_a_holder_or_a_refusal(
    headers: list[tuple[bytes, bytes]], session_id: str, previous: bytes | None
) -> None:
    credentials = Credentials(KEY, previous)
    request = request_of(headers, session_id)
    for read in (credentials.holder, credentials.session):
        try:
            holder = read(request)
        except RefusedError as error:
            refused_as(error, *OF_CREDENTIALS)
            continue
        assert holder is None or (isinstance(holder, Holder) and holder.session_id == SESSION)
    for own in (None, SecretStr(""), SecretStr("the operator's token, which none of these is")):
        with pytest.raises(RefusedError):
            admit_operator(request, own)


@given(st.lists(st.tuples(names, raw_values), max_size=4), st.binary(max_size=30))
def test_any_key_identifies_or_is_refused(headers: list[tuple[bytes, bytes]], body: bytes) -> None:
    request = request_of(headers)
    try:
        key = idempotency_key(request)
    except RefusedError as error:
        refused_as(error, Code.INVALID_REQUEST)
        return
    sent = [value for name, value in headers if name == b"idempotency-key"]
    assert (key is None) == (not sent)
    if key is not None:
        assert [key.encode("ascii")] == sent and 1 <= len(key) <= 255 and key.isprintable() and " " not in key
        once = operation_key_of(request, key, body)
        assert once.keyed and once == operation_key_of(request, key, body)
        assert once.digest != operation_key_of(request, key, body + b"x").digest
        assert once.name != operation_key_of(request, key + "x", body).name
    attempt_of(request, key, body)
