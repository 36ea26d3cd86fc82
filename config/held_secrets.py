"""Secrets by the kinds of processes that hold them: each process gets those that its work needs, and no other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

from pydantic import SecretStr

from .settings import Settings


class Role(StrEnum):
    """Kind of a process. The main process of a server is none of them: it has all secrets, and hands them out."""

    FRONT = "front"
    HOST = "host"
    TREASURY = "treasury"
    ORACLE = "oracle"


_HOLDERS: Final[Mapping[str, frozenset[Role]]] = {
    "redis_url": frozenset(Role),
    "lnbits_invoice_key": frozenset({Role.HOST, Role.TREASURY}),
    "lnbits_admin_key": frozenset({Role.TREASURY}),
    "lnd_macaroon": frozenset({Role.TREASURY}),
    "phoenixd_password": frozenset({Role.TREASURY}),
    "nwc_url": frozenset({Role.TREASURY}),
    "anthropic_api_key": frozenset({Role.HOST, Role.ORACLE}),
    "operator_token": frozenset({Role.FRONT}),
    "macaroon_root_key": frozenset(),
    "macaroon_root_key_previous": frozenset(),
}
"""Holders of each secret setting. Nothing asks whether a root key is set, and the keys derived from it go apart."""
_ROOT_KEYS: Final = frozenset({"macaroon_root_key", "macaroon_root_key_previous"})
# A process without a secret has this in its place, as it may have to know that the secret is set.
_ELSEWHERE: Final = "(held by another process)"


class ElsewhereError(Exception):
    """Use of a secret that this process does not hold: a defect."""

    def __init__(self) -> None:
        super().__init__("this process does not hold this secret")


def is_here(secret: SecretStr | None) -> bool:
    """Return True if the secret is set, and this process holds it."""
    return secret is not None and secret.get_secret_value() != _ELSEWHERE


def held(secret: SecretStr | None) -> str | None:
    """Return the secret's text, or None if it is not set. Raises `ElsewhereError`."""
    if secret is not None and not is_here(secret):
        raise ElsewhereError
    return None if secret is None else secret.get_secret_value()


def without_secrets(settings: Settings) -> dict[str, Any]:
    """Return the settings as plain values without any secret: they travel by Ray, which keeps what it carries.

    What is left out is asked for by the process itself, of the server of its node.
    """
    return settings.model_dump(exclude=set(_HOLDERS))


def secrets_for(settings: Settings, role: Role) -> dict[str, str | None]:
    """Return all secret settings by their fields, as a process of this kind may have them."""
    return {name: _text_for(name, getattr(settings, name), role) for name in _HOLDERS}


def only_for(settings: Settings, role: Role) -> Settings:
    """Return the settings as a process of this kind may have them."""
    return with_secrets(settings, secrets_for(settings, role))


def with_secrets(settings: Settings, secrets: Mapping[str, str | None]) -> Settings:
    """Return the settings with these secrets, by their fields, in the place of all others."""
    update = {
        name: text if text is None or name == "redis_url" else SecretStr(text)
        for name, text in ((name, secrets.get(name)) for name in _HOLDERS)
    }
    return settings.model_copy(update=update)


def _text_for(name: str, secret: SecretStr | str | None, role: Role) -> str | None:
    if secret is None or (role not in _HOLDERS[name] and name in _ROOT_KEYS):
        return None
    text = secret.get_secret_value() if isinstance(secret, SecretStr) else secret
    return text if role in _HOLDERS[name] else _ELSEWHERE


@dataclass(frozen=True, slots=True)
class Handout:
    """Secrets that the main process hands to another one.

    settings: secret settings by their fields. upstream_keys: those of model providers by the names of the upstreams.
    webhook_keys: the keys that sign notices.
    """

    settings: dict[str, str | None] = field(repr=False)
    upstream_keys: dict[str, str | None] = field(default_factory=dict, repr=False)
    webhook_keys: list[bytes] = field(default_factory=list, repr=False)
