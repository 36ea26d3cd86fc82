"""Names of the settings that are secrets. It imports nothing, as the launcher of a server reads it."""

from __future__ import annotations

from typing import Final

SECRETS: Final = (
    "REDIS_URL",
    "LNBITS_INVOICE_KEY",
    "LNBITS_ADMIN_KEY",
    "LND_MACAROON",
    "PHOENIXD_PASSWORD",
    "NWC_URL",
    "ANTHROPIC_API_KEY",
    "MACAROON_ROOT_KEY",
    "MACAROON_ROOT_KEY_PREVIOUS",
    "OPERATOR_TOKEN",
)
"""Secret settings of a server; the address of a store has its password. The models file names the others."""

RAY_SECRETS: Final = ("RAY_REDIS_PASSWORD",)
"""Secrets of Ray's head alone: the password of its user in the store."""

CLIENT_SECRETS: Final = ("SATMETER_WALLET_LNBITS_KEY", "SATMETER_LOAD_ADMIN_KEY", "SATMETER_KEY")
"""Secrets of the programs that buy; the last one is a session's macaroon, in the lines that the first page shows."""

BINARY: Final = frozenset({"LND_MACAROON"})
"""Macaroons, whose file may also hold them in binary, of which the hex is taken."""

IN_A_FILE: Final = "_FILE"
"""The end of the variable that names the file of a secret."""
