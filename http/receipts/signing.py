"""Signatures of receipts: Ed25519 in a compact JWS (RFC 7515, RFC 8037), which libraries of all languages verify."""

from __future__ import annotations

import base64
import hashlib
from typing import Final

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

ALGORITHM: Final = "EdDSA"
TYPE: Final = "satmeter-receipt+jws"
_KEY_LABEL: Final = b"satmeter ed25519 receipt key 1"


class ReceiptSigner:
    """Signer with a key derived from the root key (HKDF), so that a receipt has the same bytes on every front, forever.

    `key_id` is the public key's thumbprint (RFC 7638): with it, a client can tell the server's key from any other.
    """

    def __init__(self, secret: bytes) -> None:
        seed = HKDF(SHA256(), 32, salt=None, info=_KEY_LABEL).derive(secret)
        self._key = Ed25519PrivateKey.from_private_bytes(seed)
        public = _base64url(self._key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw))
        self._public = {"crv": "Ed25519", "kty": "OKP", "x": public}
        self.key_id = thumbprint(public)
        header = {"alg": ALGORITHM, "jwk": self._public, "kid": self.key_id, "typ": TYPE}
        self._header = _base64url(msgspec.json.encode(header))

    @property
    def jwk(self) -> dict[str, str]:
        """The public key as a JSON Web Key (RFC 8037)."""
        return {**self._public, "kid": self.key_id, "alg": ALGORITHM, "use": "sig"}

    def sign(self, payload: bytes) -> str:
        """Return the payload with its signature, as a compact JWS."""
        signed = f"{self._header}.{_base64url(payload)}"
        return f"{signed}.{_base64url(self._key.sign(signed.encode()))}"


def thumbprint(public: str) -> str:
    """Return the id of an Ed25519 key, by its `x` (RFC 7638)."""
    canonical = f'{{"crv":"Ed25519","kty":"OKP","x":"{public}"}}'
    return _base64url(hashlib.sha256(canonical.encode()).digest())


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
