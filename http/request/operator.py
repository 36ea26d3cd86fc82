"""The operator's token, which opens what is not for strangers."""

from __future__ import annotations

import hmac
from typing import Final

from pydantic import SecretStr
from starlette.requests import HTTPConnection

from ...actors.domain.errors import Code, Refusal, RefusedError

_MISSING: Final = Refusal(
    Code.MISSING_CREDENTIAL, "This is for the operator: send `Authorization: Bearer <OPERATOR_TOKEN>`."
)
_WRONG: Final = Refusal(Code.INVALID_CREDENTIAL, "This is not the operator's token.")
_SCHEME: Final = "bearer "


def admit_operator(connection: HTTPConnection, token: SecretStr | None) -> None:
    """Raise `RefusedError` (401) for a request without the token. Without a token there is no operator."""
    sent = connection.headers.get("authorization", "")
    if not sent:
        raise RefusedError(_MISSING)
    own = "" if token is None else token.get_secret_value()
    right = hmac.compare_digest(sent[len(_SCHEME) :].strip(" ").encode(), own.encode())
    if not own or sent[: len(_SCHEME)].lower() != _SCHEME or not right:
        raise RefusedError(_WRONG)
