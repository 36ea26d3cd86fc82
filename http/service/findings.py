"""Findings of the treasury, as sentences for the operator."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from ...actors.domain.timestamps import timestamp
from ...actors.ports import Findings, Refusals
from . import schemas as around

_TOO_OLD: Final = "too_old"
_KEYS: Final[Mapping[str, str]] = {
    "invoice_key_unknown": "LNbits does not know LNBITS_INVOICE_KEY.",
    "admin_key_unknown": "LNbits does not know LNBITS_ADMIN_KEY: no refund can be paid.",
    "admin_key_missing": "LNBITS_ADMIN_KEY is not set: no refund can be paid.",
    "no_admin_key": "LNBITS_ADMIN_KEY is an invoice key: no refund can be paid.",
    "two_wallets": "LNBITS_ADMIN_KEY is of another wallet than LNBITS_INVOICE_KEY.",
    _TOO_OLD: "LNbits is older than 1.0, and no invoice of it can be read: upgrade it.",
}
_REFUSED: Final[Mapping[str, str]] = {
    "key": "The Lightning node did not take the key for a refund.",
    "funds": "The wallet held too little for a refund.",
    "rules": "The Lightning node has a rule against a refund.",
}
_UNNAMED: Final = "A refund could not be paid."


def payouts_of(findings: Findings | None, refusals: Refusals) -> around.Payouts | None:
    """Return the payouts in the answer of `/readyz`; None before the treasury's first look."""
    if findings is None:
        return None
    since_ms = findings.compared_since_ms
    return around.Payouts(
        unknown_count=findings.unknown_payouts,
        unknown_msat=findings.unknown_payouts_msat,
        compared_count=findings.compared_payouts,
        compared_since=None if since_ms is None else timestamp(since_ms),
        refused_count=sum(refusals.counts.values()),
        trouble=_trouble(findings, refusals),
    )


def warnings_of(findings: Findings | None, refusals: Refusals) -> list[str] | None:
    """Return warnings for the operator, one sentence each; None without any."""
    if findings is None:
        return None
    found = [_trouble(findings, refusals)]
    if findings.unknown_payouts:
        found.append(
            f"The wallet made {findings.unknown_payouts} payments over {findings.unknown_payouts_msat} msat that no "
            "journal tells as paid: run `satmeter audit`."
        )
    if findings.store_losses:
        found.append(f"{store_trouble(findings)[0].upper()}{store_trouble(findings)[1:]}.")
    return [warning for warning in found if warning] or None


def store_trouble(findings: Findings) -> str:
    """Return why the store can't be trusted with money, in the middle of a sentence."""
    losses = ", ".join(
        f"{loss} at {address}" if address else loss for address, loss in sorted(findings.store_losses.items())
    )
    return f"the store may lose what it confirms ({losses})"


def node_trouble(findings: Findings) -> str | None:
    """Return why the Lightning node is of no use, in the middle of a sentence; None if nothing is known against it."""
    return "its LNbits is older than 1.0: upgrade it" if findings.key_trouble == _TOO_OLD else None


def _trouble(findings: Findings, refusals: Refusals) -> str | None:
    if findings.key_trouble is not None:
        return _KEYS.get(findings.key_trouble, _UNNAMED)
    return None if refusals.last is None else _REFUSED.get(refusals.last, _UNNAMED)
