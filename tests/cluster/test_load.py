"""`satmeter load` with real Lightning invoices: its deposits come from a wallet at a real LNbits, and go back to it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec

from tests.helpers.cluster.wallets import wallet_msat
from tests.helpers.served import Served
from tests.lnbits.server import Lnbits


def load(directory: Path, server: Served, admin_key: str, *words: str) -> tuple[int, str, dict[str, Any]]:
    command = str(Path(sys.executable).with_name("satmeter"))
    short = ("--sessions", "3", "--deposit", "1000", "--rate", "10", "--duration", "1", "--json", "report")
    done = subprocess.run(
        [command, "load", server.url, *short, *words],
        cwd=directory,
        env={**os.environ, "SATMETER_LOAD_ADMIN_KEY": admin_key},
        capture_output=True,
        text=True,
        check=False,
    )
    report = directory / "report"
    return (
        done.returncode,
        done.stdout + done.stderr,
        msgspec.json.decode(report.read_bytes() if report.exists() else b"{}"),
    )


def test_a_wallet_gets_back_what_was_not_spent(lnbits: Lnbits, lnbits_server: Served, tmp_path: Path) -> None:
    before_msat = wallet_msat(lnbits)
    status, said, report = load(tmp_path, lnbits_server, lnbits.payer.admin_key, "--lnbits-url", lnbits.url)
    assert status == 0, said
    books, refunds = report["books"], report["refunds"]
    assert books["close"] and books["deposited_msat"] == 3_000_000 and books["balance_msat"] == 0
    assert 0 < books["spent_msat"] == books["told_msat"] + books["fees_msat"]
    assert refunds["sessions"] == 3 and refunds["failed"] == 0
    assert wallet_msat(lnbits) == before_msat - 3_000_000 + refunds["paid_back_msat"]
    assert books["paid_back_msat"] == refunds["paid_back_msat"] and books["owed_msat"] == refunds["left_msat"]
    # The macaroons were in a file until all was back, and are not now.
    assert report["kept_in"] is None and list(tmp_path.glob("*.jsonl")) == []


def test_what_is_not_to_be_refunded_stays_in_sessions_whose_macaroons_are_kept(
    lnbits: Lnbits, lnbits_server: Served, tmp_path: Path
) -> None:
    before_msat = wallet_msat(lnbits)
    words = ("--lnbits-url", lnbits.url, "--no-refund", "--keep", "kept")
    status, said, report = load(tmp_path, lnbits_server, lnbits.payer.admin_key, *words)
    assert status == 0, said
    assert report["refunds"] is None and wallet_msat(lnbits) == before_msat - 3_000_000
    kept = [msgspec.json.decode(line) for line in (tmp_path / "kept").read_bytes().splitlines()]
    balances = 0
    for session in kept:
        headers = {"Authorization": f"Bearer {session['macaroon']}"}
        shown = lnbits_server.client.get(f"/sessions/{session['session_id']}", headers=headers).json()
        balances += shown["balanceMsat"]
    assert balances == report["books"]["balance_msat"] > 0


def test_a_wallet_that_can_not_pay_is_told_before_anything_is_opened(
    lnbits: Lnbits, lnbits_server: Served, tmp_path: Path
) -> None:
    words = ("--lnbits-url", lnbits.url)
    status, said, _ = load(tmp_path, lnbits_server, "no such key", *words)
    assert status == 1 and "SATMETER_LOAD_ADMIN_KEY" in said and "no such key" not in said
    status, said, _ = load(tmp_path, lnbits_server, lnbits.payer.admin_key, *words, "--sessions", "20000")
    assert status == 1 and "The deposits need 20000000 sats" in said
    status, said, _ = load(tmp_path, lnbits_server, lnbits.payer.admin_key)
    assert status == 1 and "--lnbits-url" in said
    assert list(tmp_path.glob("*.jsonl")) == []
