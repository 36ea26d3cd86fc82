"""Findings of the treasury, as sentences for the operator."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from ...actors.domain.timestamps import timestamp
from ...actors.ports import Findings, Refusals, WalletWords
from . import schemas as around

_REFUSED: Final[Mapping[str, str]] = {
    "key": "The Lightning node did not take the key for a refund.",
    "funds": "The wallet held too little for a refund.",
    "rules": "The Lightning node would not pay a refund, by a rule of its own or for want of a channel.",
}
_UNNAMED: Final = "A refund could not be paid."


def payouts_of(findings: Findings | None, refusals: Refusals, wallet: WalletWords) -> around.Payouts | None:
    """Return the payouts in the answer of `/readyz`; None before the treasury's first look."""
    if findings is None:
        return None
    since_ms, long_since_ms = findings.compared_since_ms, findings.long_payouts_since_ms
    return around.Payouts(
        unknown_count=findings.unknown_payouts,
        unknown_msat=findings.unknown_payouts_msat,
        compared_count=findings.compared_payouts,
        compared_since=None if since_ms is None else timestamp(since_ms),
        refused_count=sum(refusals.counts.values()),
        long_pending_count=findings.long_payouts or None,
        long_pending_msat=findings.long_payouts_msat if findings.long_payouts else None,
        long_pending_since=None if long_since_ms is None else timestamp(long_since_ms),
        trouble=_trouble(findings, refusals, wallet),
    )


def warnings_of(findings: Findings | None, refusals: Refusals, wallet: WalletWords) -> list[str] | None:
    """Return warnings for the operator, one sentence each; None without any."""
    if findings is None:
        return None
    found = [_trouble(findings, refusals, wallet)]
    if findings.unknown_payouts:
        found.append(
            f"The wallet made {findings.unknown_payouts} payments over {findings.unknown_payouts_msat} msat that no "
            "journal tells as paid: run `satmeter audit`."
        )
    if findings.long_payouts and findings.long_payouts_since_ms is not None:
        # No ids: this page is open to all.
        found.append(
            f"The Lightning node has not told for more than a day how {findings.long_payouts} payouts ended, since "
            f"{timestamp(findings.long_payouts_since_ms)}: `satmeter audit` names them, so that you can ask the node; "
            "docs/lightning.md says how."
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


def node_trouble(findings: Findings, wallet: WalletWords) -> str | None:
    """Return why the Lightning node is of no use, in the middle of a sentence; None if nothing is known against it."""
    return None if findings.key_trouble is None else wallet.unusable.get(findings.key_trouble)


def _trouble(findings: Findings, refusals: Refusals, wallet: WalletWords) -> str | None:
    if findings.key_trouble is not None:
        return wallet.troubles.get(findings.key_trouble, _UNNAMED)
    return None if refusals.last is None else _REFUSED.get(refusals.last, _UNNAMED)
