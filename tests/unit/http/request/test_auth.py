"""Credentials: what is taken for one, what it allows, and that nothing else gets in or breaks anything."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.requests import Request

from satmeter.actors.domain.credentials import macaroon
from satmeter.actors.domain.credentials.caveats import Action
from satmeter.actors.domain.credentials.macaroon import InvalidMacaroonError
from satmeter.actors.domain.errors import Code, RefusedError
from satmeter.actors.domain.money import Msat
from satmeter.http.request.auth import Credentials
from satmeter.http.request_facts import RequestFacts
from satmeter.http.response import errors
from tests.helpers.http.fronts import MACAROON_KEY
from tests.helpers.http.stubs import OTHER_SESSION, PREIMAGE, SESSION, token

GOOD = token()


def request_of(*headers: bytes | str, session: str = SESSION) -> Request:
    raw = [(b"authorization", h.encode("latin-1") if isinstance(h, str) else h) for h in headers]
    return Request({"type": "http", "method": "GET", "headers": raw, "path_params": {"sessionId": session}})


def refused(*headers: bytes | str, session: str = SESSION) -> RefusedError:
    with pytest.raises(RefusedError) as caught:
        Credentials(MACAROON_KEY).session(request_of(*headers, session=session))
    return caught.value


@pytest.mark.parametrize(
    "header",
    [
        f"Bearer {GOOD}",
        f"bearer {GOOD}",
        f"BEARER   {GOOD} ",
        f"L402 {GOOD}:{PREIMAGE}",
        f"l402 {GOOD}:{PREIMAGE.upper()}",
        f"LSAT {GOOD}:{PREIMAGE}",
        f"lsat  {GOOD}:{PREIMAGE}",
    ],
)
def test_a_macaroon_is_taken_in_every_form_that_clients_send(header: str) -> None:
    holder = Credentials(MACAROON_KEY).session(request_of(header))
    assert (holder.session_id, holder.grant.generation) == (SESSION, 1)
    assert holder.shows_preimage == (PREIMAGE in header.lower())


def test_caveats_arrive_in_the_grant() -> None:
    narrowed = token("max_msat = 500", "actions = read,request", "name = ben")
    grant = Credentials(MACAROON_KEY).session(request_of(f"Bearer {narrowed}")).grant
    assert [limit.limit_msat for limit in grant.spend_limits] == [Msat(500)]
    assert grant.actions == {Action.READ, Action.REQUEST} and grant.spender == "ben"


def test_without_a_header_the_answer_says_what_to_send() -> None:
    error = refused()
    answer = errors.answer(error, RequestFacts("req_a"))
    assert error.refusal.code is Code.MISSING_CREDENTIAL
    assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")


@pytest.mark.parametrize(
    "header",
    [
        "",
        " ",
        "Bearer",
        "Bearer ",
        GOOD,
        f"Basic {GOOD}",
        f"Bearer {GOOD}:{PREIMAGE}",
        f"Bearer {GOOD},{GOOD}",
        f"Bearer {GOOD[:-8]}",
        f"Bearer {token(key=b'x' * 32)}",
        f"Bearer {token(session=OTHER_SESSION)}",
        f"L402 {GOOD}",
        f"L402 {GOOD}:",
        f"L402 {GOOD}:{'00' * 32}",
        f"L402 {GOOD}:{PREIMAGE[:-2]}",
        f"L402 {GOOD}:{PREIMAGE}00",
        f"L402 {GOOD}:{'0 ' * 32}",
        f"L402 :{PREIMAGE}",
        f"LSAT {GOOD}:{PREIMAGE}:{PREIMAGE}",
        "Bearer " + "A" * 10_000,
        "Bearer " + "é" * 500,
        b"Bearer \xff\xfe\x00\x01",
        b"\x00",
    ],
)
def test_what_is_no_credential_of_this_session_is_refused(header: bytes | str) -> None:
    error = refused(header)
    assert error.refusal.code is Code.INVALID_CREDENTIAL
    assert errors.answer(error, RequestFacts("req_a")).headers["www-authenticate"].startswith("Bearer ")


def test_two_headers_are_one_too_many_even_if_both_are_good() -> None:
    assert refused(f"Bearer {GOOD}", f"Bearer {GOOD}").refusal.code is Code.INVALID_CREDENTIAL


def test_a_caveat_that_is_not_known_is_named() -> None:
    refusal = refused(f"Bearer {token('moon = full')}").refusal
    assert (refusal.code, refusal.details) == (Code.CAVEAT_VIOLATED, {"caveat": "moon = full"})


def test_more_caveats_than_are_looked_at_are_told_from_a_wrong_macaroon() -> None:
    refusal = refused(f"Bearer {token(*['name = x'] * 65)}").refusal
    assert refusal.code is Code.INVALID_CREDENTIAL
    assert refusal.message == "A macaroon can have at most 64 caveats and 8192 characters."


def test_more_limits_than_are_counted_are_named() -> None:
    refusal = refused(f"Bearer {token(*[f'max_msat = {msat}' for msat in range(60, 0, -1)])}").refusal
    assert (refusal.code, refusal.details) == (Code.CAVEAT_VIOLATED, {"caveat": "max_msat = 52"})
    assert refusal.message.startswith("A credential can have at most 8 caveats max_msat and max_msat_per")


@pytest.mark.parametrize("session", ["ses_", "ses_short", f"job_{'a' * 32}", f"ses_{'a' * 33}", f"ses_{'é' * 32}"])
def test_an_id_that_can_t_be_a_session_s_is_not_found_but_nobody_without_a_credential_learns_that(session: str) -> None:
    assert refused(f"Bearer {GOOD}", session=session).refusal.code is Code.NOT_FOUND
    assert refused(session=session).refusal.code is Code.MISSING_CREDENTIAL


class Counting:
    """`macaroon.verify_by_any`, and how often it was called."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls = 0
        self._verify = macaroon.verify_by_any
        monkeypatch.setattr(macaroon, "verify_by_any", self)

    def __call__(self, keys: Sequence[bytes], text: str) -> Any:
        self.calls += 1
        return self._verify(keys, text)


def test_while_the_root_key_is_changed_credentials_of_both_keys_are_valid() -> None:
    new = b"the new key of a test, of 32 byte"
    for key, of_previous in ((new, False), (MACAROON_KEY, True)):
        holder = Credentials(new, MACAROON_KEY).session(request_of(f"Bearer {token('max_msat = 5', key=key)}"))
        assert (holder.session_id, holder.of_previous_key) == (SESSION, of_previous)
        assert [limit.limit_msat for limit in holder.grant.spend_limits] == [Msat(5)]
    for credentials, key in ((Credentials(new), MACAROON_KEY), (Credentials(new, MACAROON_KEY), b"a third")):
        with pytest.raises(RefusedError) as caught:
            credentials.session(request_of(f"Bearer {token(key=key)}"))
        assert caught.value.refusal.code is Code.INVALID_CREDENTIAL


def test_all_keys_are_tried_for_every_credential(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[bytes] = []
    fresh = macaroon._fresh

    def noted(key: bytes, macaroon_id: macaroon.MacaroonId) -> Any:
        tried.append(key)
        return fresh(key, macaroon_id)

    for key in (b"one", b"two"):
        good = token(key=key)
        with monkeypatch.context() as patch:
            patch.setattr(macaroon, "_fresh", noted)
            macaroon.verify_by_any((b"one", b"two"), good)
    assert tried == [b"one", b"two", b"one", b"two"]


def test_a_good_credential_is_verified_once_and_a_bad_one_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    counting = Counting(monkeypatch)
    credentials = Credentials(MACAROON_KEY)
    for _ in range(3):
        credentials.session(request_of(f"Bearer {GOOD}"))
    assert counting.calls == 1
    for _ in range(3):
        with pytest.raises(RefusedError):
            credentials.session(request_of(f"Bearer {GOOD[:-8]}"))
    assert counting.calls == 4


def test_a_credential_that_was_verified_opens_no_other_session_and_spares_no_preimage() -> None:
    credentials = Credentials(MACAROON_KEY)
    credentials.session(request_of(f"Bearer {GOOD}"))
    for request in (
        request_of(f"Bearer {GOOD}", session=OTHER_SESSION),
        request_of(f"L402 {GOOD}:{'00' * 32}"),
    ):
        with pytest.raises(RefusedError) as caught:
            credentials.session(request)
        assert caught.value.refusal.code is Code.INVALID_CREDENTIAL


def test_long_credentials_are_taken_but_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    counting = Counting(monkeypatch)
    credentials = Credentials(MACAROON_KEY)
    long = token(*[f"name = {'n' * 60}"] * 20)
    for _ in range(2):
        credentials.session(request_of(f"Bearer {long}"))
    assert counting.calls == 2


def _schemes() -> st.SearchStrategy[bytes]:
    return st.sampled_from([b"Bearer ", b"bearer\t", b"L402 ", b"LSAT ", b"", b"Basic "])


@given(_schemes(), st.binary(max_size=300))
def test_any_bytes_are_refused_and_break_nothing(scheme: bytes, junk: bytes) -> None:
    assert refused(scheme + junk).refusal.code in {Code.INVALID_CREDENTIAL, Code.CAVEAT_VIOLATED}


@given(_schemes(), st.binary(max_size=300))
def test_any_bytes_in_base64_are_refused_and_break_nothing(scheme: bytes, junk: bytes) -> None:
    code = refused(scheme + base64.b64encode(junk)).refusal.code
    assert code in {Code.INVALID_CREDENTIAL, Code.CAVEAT_VIOLATED}


@given(st.data())
def test_a_good_credential_with_anything_changed_is_no_good_one(data: st.DataObject) -> None:
    raw = bytearray(base64.b64decode(GOOD))
    place = data.draw(st.integers(0, len(raw) - 1))
    raw[place] ^= data.draw(st.integers(1, 255))
    changed = base64.b64encode(bytes(raw)).decode()
    try:
        macaroon_id, _ = macaroon.verify(MACAROON_KEY, changed)
    except InvalidMacaroonError:
        assert refused(f"Bearer {changed}").refusal.code is Code.INVALID_CREDENTIAL
    else:
        # The location is the one part that is not signed; it says nothing.
        assert (macaroon_id.session_id, place < 16) == (SESSION, True)
