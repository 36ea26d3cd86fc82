"""Sums of the node's own lists."""

from __future__ import annotations

from satmeter.actors.domain.money import Msat
from satmeter.actors.domain.payments.invoices import Settlement
from satmeter.actors.domain.payments.payouts import SentPayment
from satmeter.scripts.audit.payments import Ledger


def test_what_others_did_at_the_same_node_counts_nowhere() -> None:
    ledger = Ledger()
    ledger.put_received([Settlement("ab" * 32, Msat(5_000), None)], {})
    ledger.put_sent([SentPayment("1", "cd" * 32, Msat(7_000), Msat(2), "")])
    sums, differences = ledger.node_sums(), [*ledger.not_credited(), *ledger.untold()]
    ledger.close()
    assert set(sums.values()) == {0}
    assert differences == []


def test_what_the_node_kept_is_told_once_for_each_payment_of_ours() -> None:
    ledger = Ledger()
    page = [
        Settlement("ab" * 32, Msat(18_037_000), "job_1", kept_msat=Msat(15_803_000)),
        Settlement("cd" * 32, Msat(1_000), "ses_1"),
        Settlement("ef" * 32, Msat(9_000), None, kept_msat=Msat(4_000)),
    ]
    for _ in range(2):
        ledger.put_received(page, {})
    sums = ledger.node_sums()
    ledger.close()
    assert (sums["received"], sums["kept"]) == (18_038_000, 15_803_000)
