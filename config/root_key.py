"""Root key of all credentials and derived ids: the operator's, or one made once for development."""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
from pathlib import Path
from typing import Final

from pydantic import SecretStr

from .settings import Settings

_FILE: Final = "macaroon_root_key"
_LENGTH_BYTES: Final = 32


def with_root_key(settings: Settings) -> Settings:
    """Return the settings with a root key: as set, or the data directory's, which is made at the first start.

    Raises `ValueError` when the stored key is damaged: a new one would silently invalidate every session's credential.
    """
    if settings.macaroon_root_key is not None:
        return settings
    key = _load_or_create(settings.data_dir / _FILE)
    return settings.model_copy(update={"macaroon_root_key": SecretStr(key)})


def derive_key(settings: Settings, purpose: str) -> bytes:
    """Derive the key of one purpose, so that no two uses share one. Raises `ValueError` without a root key."""
    if settings.macaroon_root_key is None:
        raise ValueError("no root key: set MACAROON_ROOT_KEY")
    root = bytes.fromhex(settings.macaroon_root_key.get_secret_value())
    return hmac.digest(root, f"satmeter {purpose}".encode(), hashlib.sha256)


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
