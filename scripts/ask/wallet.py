"""Wallet of `satmeter ask` and `satmeter mcp`, chosen by flags and the environment."""

from __future__ import annotations

import os
from enum import StrEnum

LNBITS_URL = "SATMETER_WALLET_LNBITS_URL"
LNBITS_KEY = "SATMETER_WALLET_LNBITS_KEY"


class WalletKind(StrEnum):
    """The kind of a wallet. `auto`: LNbits if the environment names it, else a development server's stub, else you."""

    AUTO = "auto"
    TERMINAL = "terminal"
    LNBITS = "lnbits"
    STUB = "stub"


def lnbits_of_environment() -> tuple[str, str] | None:
    """Return the wallet's address and admin key. Raises `ValueError` if one is missing, or the key would be exposed."""
    from ...config.secret_files import secret_of

    url, key = os.environ.get(LNBITS_URL, ""), secret_of(LNBITS_KEY, os.environ)
    if bool(url) != bool(key):
        raise ValueError(f"{LNBITS_URL} and {LNBITS_KEY} go together: set both, or neither.")
    if url:
        from ..preflight.transport_checks import PLAIN_HTTP, may_carry_keys, plain_http_allowed

        if not may_carry_keys(url, plain_http_allowed(os.environ)):
            raise ValueError(f"{LNBITS_URL}: {PLAIN_HTTP}")
    return (url, key) if url else None
