"""The operator's cookie holds for its token and its time, and tells nothing of either."""

from __future__ import annotations

import pytest
from pydantic import SecretStr
from starlette.datastructures import Headers

from satmeter.http.operator.sign_in import COOKIE, LIFE_S, SignIn, cookie_in

TOKEN = "the operator's token of a test"


class Clock:
    now_ms = 1_800_000_000_000


def sign_in(token: str | None = TOKEN) -> SignIn:
    return SignIn(None if token is None else SecretStr(token), lambda: Clock.now_ms)


def test_a_cookie_holds_in_every_front_with_the_same_token_until_its_time_is_over(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cookie = sign_in().cookie()
    assert sign_in().admits(cookie)
    monkeypatch.setattr(Clock, "now_ms", Clock.now_ms + LIFE_S * 1_000 - 1)
    assert sign_in().admits(cookie)
    monkeypatch.setattr(Clock, "now_ms", Clock.now_ms + 1)
    assert not sign_in().admits(cookie)


def test_another_token_ends_all_cookies() -> None:
    assert not sign_in("another").admits(sign_in().cookie())


@pytest.mark.parametrize("place", range(0, 80, 5))
def test_a_changed_cookie_is_none(place: int) -> None:
    cookie = sign_in().cookie()
    changed = f"{cookie[:place]}{'0' if cookie[place] != '0' else '1'}{cookie[place + 1 :]}"
    assert not sign_in().admits(changed)


@pytest.mark.parametrize("cookie", [None, "", ".", "..", "9999999999..", "9" * 500, "é.é.é", "1800000000.aa.bb"])
def test_what_is_no_cookie_admits_nobody(cookie: str | None) -> None:
    assert not sign_in().admits(cookie)


@pytest.mark.parametrize("token", [None, ""])
def test_without_a_token_nobody_is_admitted(token: str | None) -> None:
    none = sign_in(token)
    assert not none.possible
    assert not none.admits(none.cookie())
    assert not none.is_token("") and not none.is_token("None")


def test_only_the_token_is_the_token() -> None:
    own = sign_in()
    assert own.is_token(TOKEN)
    for wrong in ("", TOKEN[:-1], f"{TOKEN} ", TOKEN.upper(), "é"):
        assert not own.is_token(wrong)


def test_a_cookie_holds_neither_the_token_nor_what_a_form_needs() -> None:
    own, cookie = sign_in(), sign_in().cookie()
    assert TOKEN not in cookie and own.form_token(cookie) not in cookie
    assert own.is_form_token(cookie, own.form_token(cookie))
    other = own.cookie()
    assert other != cookie and not own.is_form_token(cookie, own.form_token(other))
    assert not own.is_form_token(cookie, "") and not sign_in("another").is_form_token(cookie, own.form_token(cookie))


@pytest.mark.parametrize(
    ("sent", "found"),
    [
        ([], None),
        (["other=1; satmeter_operators=2"], None),
        ([f"{COOKIE}=1.ab.cd"], "1.ab.cd"),
        ([f"other=1;{COOKIE}=2; more=3"], "2"),
        (["other=1", f"{COOKIE}=2; {COOKIE}=3"], "3"),
        ([f"{COOKIE}"], ""),
        # To remove the escapes of such a one took five seconds.
        ([f'{COOKIE}="{chr(92) * 64_000}"'], f'"{chr(92) * 64_000}"'),
    ],
)
def test_the_cookie_is_read_as_it_was_sent(sent: list[str], found: str | None) -> None:
    headers = Headers(raw=[(b"cookie", each.encode()) for each in sent])
    assert cookie_in(headers) == found
