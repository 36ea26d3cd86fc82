"""Root key of all credentials and derived ids: the operator's, or one made once for development."""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from pydantic import SecretStr

from .settings import Settings

_FILE: Final = "macaroon_root_key"
_LENGTH_BYTES: Final = 32
_DIGEST_CHARS: Final = 16


def with_root_key(settings: Settings) -> Settings:
    """Return the settings with a root key: as set, or the data directory's, which is made at the first start.

    Raises `ValueError` when the stored key is damaged: a new one would silently invalidate every session's credential.
    """
    if settings.macaroon_root_key is not None:
        return settings
    key = _load_or_create(settings.data_dir / _FILE)
    return settings.model_copy(update={"macaroon_root_key": SecretStr(key)})


@dataclass(frozen=True, slots=True)
class Keys:
    """Keys that derive from one root key, each for one purpose. `digest` tells root keys apart, and nothing more."""

    ids: bytes = field(repr=False)
    macaroons: bytes = field(repr=False)
    receipts: bytes = field(repr=False)
    webhooks: bytes = field(repr=False)
    withdrawals: bytes = field(repr=False)
    pay_pages: bytes = field(repr=False)
    digest: str


def derived_keys(settings: Settings) -> Keys:
    """Derive the keys that are in use. Raises `ValueError` without a root key."""
    if settings.macaroon_root_key is None:
        raise ValueError("no root key: set MACAROON_ROOT_KEY")
    return _derived(settings.macaroon_root_key)


def previous_keys(settings: Settings) -> Keys | None:
    """Derive the keys that are believed besides, while the root key is changed; None at other times."""
    previous = settings.macaroon_root_key_previous
    return None if previous is None else _derived(previous)


def _derived(root_key: SecretStr) -> Keys:
    root = bytes.fromhex(root_key.get_secret_value())

    def key(purpose: str) -> bytes:
        return hmac.digest(root, f"satmeter {purpose}".encode(), hashlib.sha256)

    return Keys(
        ids=key("ids"),
        macaroons=key("macaroons"),
        receipts=key("receipts"),
        webhooks=key("webhooks"),
        withdrawals=key("withdrawals"),
        pay_pages=key("pay pages"),
        digest=key("digest of the key").hex()[:_DIGEST_CHARS],
    )


def _load_or_create(path: Path) -> str:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        # The complete file is linked into place: a start that is killed here must not leave half a key behind.
        draft = path.with_name(f"{path.name}.{os.getpid()}")
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(secrets.token_hex(_LENGTH_BYTES))
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(draft, path)
        finally:
            draft.unlink()
    except FileExistsError:
        pass
    key = path.read_text().strip()
    if len(key) != 2 * _LENGTH_BYTES or not all(character in "0123456789abcdef" for character in key):
        raise ValueError(f"{path} does not hold 32 bytes in hex: restore it, or set MACAROON_ROOT_KEY")
    return key
