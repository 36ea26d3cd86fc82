"""Operator's sign-in: a cookie that any front can check with `OPERATOR_TOKEN` alone, and tokens for its forms.

The cookie is a time and a mark over it, by a key that derives from the token: who has the cookie can't find the token,
and another token ends all cookies. The store keeps those that the operator signed out of, by a name of their own, until
their time is over.
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Callable
from hashlib import sha256
from typing import Final

from pydantic import SecretStr
from starlette.datastructures import Headers

COOKIE: Final = "satmeter_operator"
LIFE_S: Final = 12 * 3_600
_KEY: Final = b"satmeter operator cookie 1"
_NONCE_BYTES: Final = 12
_LONGEST: Final = 200


def cookie_in(headers: Headers) -> str | None:
    """Return the cookie that a browser sent; None without one.

    Starlette's own reading removes escapes, in the square of their number: 64 KiB of them take seconds.
    """
    found = None
    for header in headers.getlist("cookie"):
        for pair in header.split(";"):
            name, _, value = pair.strip(" ").partition("=")
            found = value if name == COOKIE else found
    return found


class SignIn:
    """Maker and checker of cookies and form tokens."""

    def __init__(self, token: SecretStr | None, now_ms: Callable[[], int]) -> None:
        own = b"" if token is None else token.get_secret_value().encode()
        self._token = own
        self._key = hmac.digest(own, _KEY, sha256)
        self._now_ms = now_ms

    @property
    def possible(self) -> bool:
        """True if there is a token."""
        return bool(self._token)

    def is_token(self, sent: str) -> bool:
        """Return whether this is the operator's token, in the same time whatever was sent."""
        # Texts of the same length are compared, so that not even the length of the token shows.
        right = hmac.compare_digest(self._mark("token", sent), hmac.digest(self._key, b"token\n" + self._token, sha256))
        return self.possible and right

    def cookie(self) -> str:
        """Return a new cookie's value."""
        expires_s = self._now_ms() // 1_000 + LIFE_S
        body = f"{expires_s}.{secrets.token_hex(_NONCE_BYTES)}"
        return f"{body}.{self._mark('cookie', body).hex()}"

    def admits(self, cookie: str | None) -> bool:
        """Return whether the cookie is one of this token's, and not too old."""
        if not self.possible or cookie is None or len(cookie) > _LONGEST:
            return False
        body, _, mark = cookie.rpartition(".")
        expires = body.partition(".")[0]
        right = hmac.compare_digest(mark.encode(), self._mark("cookie", body).hex().encode())
        return right and expires.isdigit() and int(expires) > self._now_ms() // 1_000

    def name_of(self, cookie: str) -> str:
        """Return the name of a cookie in the store, from which it can't be made again."""
        return self._mark("ended", cookie).hex()

    def left_ms(self, cookie: str) -> int:
        """Return the time until a cookie ends that is admitted."""
        return int(cookie.partition(".")[0]) * 1_000 - self._now_ms()

    def form_token(self, cookie: str) -> str:
        """Return the token that each form of this cookie's pages has."""
        return self._mark("form", cookie).hex()

    def is_form_token(self, cookie: str, sent: str) -> bool:
        """Return whether a form comes from one of our pages for this cookie."""
        return hmac.compare_digest(sent.encode(), self.form_token(cookie).encode())

    def _mark(self, kind: str, text: str) -> bytes:
        return hmac.digest(self._key, f"{kind}\n{text}".encode(), sha256)
