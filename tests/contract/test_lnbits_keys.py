"""Words of `satmeter check` and the start on two keys, held by a real LNbits. No money moves."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from satmeter.actors.adapters.lnbits.client import LnbitsLightning
from satmeter.config.settings import Settings
from satmeter.scripts.preflight.probes import probe
from satmeter.scripts.preflight.wallet_probes import probed_wallet
from tests.lnbits.server import Lnbits, Wallet


def settings(lnbits: Lnbits, invoice_key: str, admin_key: str | None) -> Settings:
    values: dict[str, Any] = {
        "LNBITS_URL": lnbits.url,
        "LNBITS_INVOICE_KEY": invoice_key,
        "LNBITS_ADMIN_KEY": admin_key,
    }
    return Settings(**values)


def used(lnbits: Lnbits) -> Wallet:
    """A wallet with an invoice in it, as every server's wallet soon is."""
    wallet = lnbits.new_wallet()
    body = {"out": False, "amount": 1, "unit": "sat"}
    headers = {"X-Api-Key": wallet.invoice_key}
    httpx.post(f"{lnbits.url}/api/v1/payments", json=body, headers=headers, trust_env=False).raise_for_status()
    return wallet


@pytest.mark.parametrize("ours", ["used", "empty"])
@pytest.mark.parametrize("other", ["used", "empty"])
async def test_keys_of_two_wallets_and_keys_without_rights_are_found(lnbits: Lnbits, ours: str, other: str) -> None:
    wallet, another = (used(lnbits) if which == "used" else lnbits.new_wallet() for which in (ours, other))

    async def told(invoice_key: str, admin_key: str | None) -> list[tuple[str, str]]:
        of = settings(lnbits, invoice_key, admin_key)
        found = (await probed_wallet(of)).problems
        assert [problem.variable for problem in (await probe(of)).problems] == [problem.variable for problem in found]
        return [(problem.variable, problem.message) for problem in found]

    assert await told(wallet.invoice_key, wallet.admin_key) == []
    # The admin key can all that the invoice key can, and more.
    assert await told(wallet.admin_key, wallet.admin_key) == []
    for invoice_key, admin_key, words in (
        (wallet.invoice_key, wallet.invoice_key, "invoice key"),
        (wallet.invoice_key, another.invoice_key, "invoice key"),
        (wallet.invoice_key, another.admin_key, "another wallet"),
        (wallet.invoice_key, "0" * 32, "does not know"),
        (wallet.invoice_key, None, "no refund"),
    ):
        ((variable, message),) = await told(invoice_key, admin_key)
        assert variable == "LNBITS_ADMIN_KEY" and words in message
        assert admin_key is None or admin_key not in message
    ((variable, _),) = await told("0" * 32, wallet.admin_key)
    assert variable == "LNBITS_INVOICE_KEY"


async def test_what_was_shown_to_work_is_told_and_rights_that_are_not_needed(lnbits: Lnbits) -> None:
    wallet = lnbits.new_wallet()
    probed = await probe(settings(lnbits, wallet.invoice_key, wallet.admin_key))
    assert (probed.problems, probed.warnings) == ([], [])
    assert list(probed.proofs) == [
        "The invoice key can't spend, and the admin key can.",
        "The wallet holds 0 sats. LNbits does not tell how much its node can receive.",
        "A test invoice over 1 sat was made and found again.",
    ]
    made = [(payment["amount"], payment["status"], payment["extra"]) for payment in listed(lnbits, wallet)]
    assert made == [(100_000_000, "pending", {}), *[(1_000, "pending", {})] * 2]
    probed = await probe(settings(lnbits, wallet.admin_key, wallet.admin_key))
    ((warning,), problems) = probed.warnings, probed.problems
    assert problems == [] and warning.variable == "LNBITS_INVOICE_KEY" and "can spend" in warning.message
    assert all(payment["amount"] > 0 for payment in listed(lnbits, wallet)), "it paid something"


async def test_a_server_that_runs_finds_the_same_of_its_keys_and_orders_nothing_for_it(lnbits: Lnbits) -> None:
    """Somebody exchanges a key or a wallet behind it."""
    wallet, another = used(lnbits), used(lnbits)

    async def found(invoice_key: str, admin_key: str | None) -> str | None:
        lightning = LnbitsLightning(lnbits.url, invoice_key, admin_key=admin_key, timeout_s=10, concurrency=4)
        try:
            return await lightning.trouble()
        finally:
            await lightning.close()

    before = rows(lnbits, wallet)
    assert await found(wallet.invoice_key, wallet.admin_key) is None
    assert await found(wallet.invoice_key, another.admin_key) == "two_wallets"
    assert await found(wallet.invoice_key, wallet.invoice_key) == "no_admin_key"
    assert await found(wallet.invoice_key, "0" * 32) == "admin_key_unknown"
    assert await found(wallet.invoice_key, None) == "admin_key_missing"
    assert await found("0" * 32, wallet.admin_key) == "invoice_key_unknown"
    empty = lnbits.new_wallet()
    assert await found(empty.invoice_key, empty.admin_key) is None
    assert (rows(lnbits, wallet), rows(lnbits, empty)) == (before, 0)


def rows(lnbits: Lnbits, wallet: Wallet) -> int:
    return len(listed(lnbits, wallet))


def listed(lnbits: Lnbits, wallet: Wallet) -> list[dict[str, Any]]:
    headers = {"X-Api-Key": wallet.admin_key}
    found: list[dict[str, Any]] = httpx.get(f"{lnbits.url}/api/v1/payments", headers=headers, trust_env=False).json()
    return found
