"""The wallet that `satmeter ask` and `satmeter mcp` pay from, as flags and the environment name it."""

from __future__ import annotations

import os
from enum import StrEnum

LNBITS_URL = "SATMETER_WALLET_LNBITS_URL"
LNBITS_KEY = "SATMETER_WALLET_LNBITS_KEY"


class WalletKind(StrEnum):
    """`auto` takes LNbits if it is in the environment, the stub on a development server, and else asks you to pay."""

    AUTO = "auto"
    TERMINAL = "terminal"
    LNBITS = "lnbits"
    STUB = "stub"


def lnbits_of_environment() -> tuple[str, str] | None:
    """Return address and admin key of the wallet. Raises `ValueError` when one is missing, or would be overheard."""
    url, key = os.environ.get(LNBITS_URL, ""), os.environ.get(LNBITS_KEY, "")
    if bool(url) != bool(key):
        raise ValueError(f"{LNBITS_URL} and {LNBITS_KEY} go together: set both, or neither.")
    if url:
        from ..preflight.settings_checks import PLAIN_HTTP, may_carry_keys, plain_http_allowed

        if not may_carry_keys(url, plain_http_allowed(os.environ)):
            raise ValueError(f"{LNBITS_URL}: {PLAIN_HTTP}")
    return (url, key) if url else None
