"""Report of an audit, as its operator reads it."""

from __future__ import annotations

from typing import Any

import pytest

from satmeter.config.settings import Settings
from satmeter.scripts.audit import cli
from satmeter.scripts.audit.auditor import Report
from satmeter.scripts.audit.payments import SUMS, Pending, Unclaimed

NODE = {"received": 0, "unclaimed": 0, "foreign": 0, "kept": 0, "paid_out": 0, "fees": 0, "wallet": 0}
NONE = {"actors": 0, **dict.fromkeys(SUMS, 0)}


def shown(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, pending: list[Pending]) -> str:
    async def audited(*_: Any) -> Report:
        return Report(NONE, NONE, NONE, NODE, 0, 0, 0, [], pending, [Unclaimed("ab" * 32, 2_000)])

    monkeypatch.setattr(cli, "audit_books", audited)
    assert cli.run(Settings(), [], None) == 0
    return capsys.readouterr().out


def test_what_came_in_for_others_is_told_apart_from_what_nobody_has(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "came in by" not in shown(capsys, monkeypatch, [])
    monkeypatch.setitem(NODE, "foreign", 7_000)
    out = shown(capsys, monkeypatch, [])
    assert "7,000 msat came in by invoices that are not of this store" in out and "The books close" in out
    monkeypatch.setitem(NODE, "unclaimed", 3_000)
    out = shown(capsys, monkeypatch, [])
    assert "3,000 msat came in by invoices that no session or job of this store has" in out
    assert f"  2,000 msat  {'ab' * 32}\n" in out


def test_payouts_that_stay_pending_are_named_with_what_to_do(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "under way for more" not in shown(capsys, monkeypatch, [])
    pending = [Pending("ab" * 32, "ses_1", 5_000_000, 1_800_000_000_000), *[Pending("cd" * 32, "ses_2", 1, 1)] * 30]
    out = shown(capsys, monkeypatch, pending)
    assert "31 payouts have been under way for more than a day. Ask the node" in out and "docs/lightning.md" in out
    assert f"  since 2027-01-15T08:00:00.000Z  5,000,000 msat  {'ab' * 32}  ses_1" in out
    assert out.count("ses_2") == 19
    assert "The books close" in out
