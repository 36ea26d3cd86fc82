"""A real LNbits that dies under the server, and the audit of everything that tests have done with it."""

from __future__ import annotations

import logging
import sqlite3
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import httpx

from tests.helpers.cluster.commands import audit, audited
from tests.helpers.cluster.sessions import Client, check_ledger
from tests.helpers.cluster.wallets import at_wallet, opened, wallet_invoice, wallet_msat, wallet_pays
from tests.helpers.patience import PATIENCE_S
from tests.helpers.served import Served, patiently
from tests.lnbits.server import Lnbits, Wallet

_SUM = """
SELECT SUM(ABS(amount)) FROM apipayments
WHERE wallet_id = (SELECT id FROM wallets WHERE inkey = ?) AND status = 'success' AND amount {} 0
"""
_REMOVE = "DELETE FROM apipayments WHERE payment_hash = ? AND amount > 0"
_log = logging.getLogger(__name__)


def test_a_node_that_is_killed_is_waited_for_and_no_payment_is_lost_or_made_twice(
    lnbits: Lnbits, lnbits_server: Served
) -> None:
    """The node dies with a deposit that nobody has seen yet, and in the middle of a refund."""
    spending, first = opened(lnbits_server)
    leaving, second = opened(lnbits_server)
    paid, deposit = opened(lnbits_server)
    for client, due in ((spending, first), (leaving, second)):
        wallet_pays(lnbits, due)
        patiently(lambda client=client: client.show()["state"] == "active", "the deposit did not arrive")
    before_msat, invoice = wallet_msat(lnbits), wallet_invoice(lnbits, 900)
    (treasury,) = lnbits_server.descendants("ray::TreasuryActor")
    with ThreadPoolExecutor(1) as pool:
        closing = pool.submit(leaving.post, "close", {"paymentRequest": invoice})
        patiently(lambda: sent_from(lnbits, invoice), "the refund is not sent")
        # The treasury sends refunds, and sees deposits: it stops between the two.
        with lnbits_server.paused(treasury):
            wallet_pays(lnbits, deposit)
            lnbits.process.kill()
            sent = sent_from(lnbits, invoice)
            assert closing.result(PATIENCE_S).status_code in (200, 425, 503)
    # What needs no node goes on, what does is told to come again.
    assert spending.ask()["result"]
    patiently(lambda: lnbits_server.client.get("/readyz").status_code == 503, "the node's end is not noticed")
    unready = lnbits_server.client.get("/readyz")
    assert unready.json()["unreachable"] == ["lightning"]
    refused = [
        lnbits_server.client.post("/sessions", json={"amountSats": 1_000}),
        spending.post("topup", {"amountSats": 500}),
        unready,
    ]
    for answer in refused:
        assert answer.status_code == 503 and int(answer.headers["Retry-After"]) > 0, answer.text
    lnbits.process.start()
    again_s = time.monotonic()
    patiently(lambda: lnbits_server.client.get("/readyz").status_code == 200, "it stays unready")
    patiently(lambda: topped_up(spending), "no invoices are made")
    patiently(lambda: paid.show()["state"] == "active", "the deposit was not found")
    _log.info("LNbits killed: all served %.1f s after it answers again", time.monotonic() - again_s)
    assert paid.show()["depositedMsat"] == 1_000_000
    patiently(lambda: refund_follows(lnbits, leaving, invoice), "the refund stays in doubt")
    _log.info("LNbits killed with a refund that was %s there: %s", sent, leaving.show()["refund"])
    # Asked again, it is not paid again.
    leaving.post("close", {"paymentRequest": invoice})
    patiently(lambda: refund_follows(lnbits, leaving, invoice), "the refund stays in doubt")
    paid_msat = leaving.show()["refund"]["paidMsat"]
    made = [amount for status, amount in sent_from(lnbits, invoice) if status == "success"]
    assert made == ([paid_msat] if paid_msat else [])
    # LNbits itself may die between the two halves of a payment from one of its wallets to another.
    assert wallet_msat(lnbits) - before_msat + 1_000_000 in (0, paid_msat)
    for client in (spending, leaving, paid):
        check_ledger(client)
        client.close()


def topped_up(client: Client) -> bool:
    """Return whether an invoice is made."""
    answer = client.post("topup", {"amountSats": 500})
    assert answer.status_code in (201, 503), answer.text
    return answer.status_code == 201


def refund_follows(lnbits: Lnbits, client: Client, invoice: str) -> bool:
    """Return whether the refund agrees with the node: paid, or else pending while the node may not know it yet."""
    made = "success" in [status for status, _ in sent_from(lnbits, invoice)]
    return client.show()["refund"]["state"] in (("paid", "partly_paid") if made else ("pending", "owed"))


def sent_from(lnbits: Lnbits, invoice: str) -> list[tuple[str, int]]:
    """Read the payments of an invoice in the node's database: their states and amounts in msat."""
    with closing(sqlite3.connect(lnbits.process.database)) as database:
        query = "SELECT status, -amount FROM apipayments WHERE bolt11 = ? AND amount < 0"
        return list(database.execute(query, (invoice,)))


def wallet_invents(lnbits: Lnbits, wallet: Wallet, actor_id: str) -> str:
    """Has the server's wallet paid as if for an actor, without the server; the payment's hash."""
    answer = httpx.post(
        f"{lnbits.url}/api/v1/payments",
        headers={"X-Api-Key": wallet.invoice_key},
        json={"out": False, "amount": 7, "extra": {"tag": "satmeter", "satmeter_actor": actor_id}},
        timeout=PATIENCE_S,
        trust_env=False,
    )
    wallet_pays(lnbits, {"paymentRequest": answer.json()["bolt11"]})
    payment_hash: str = answer.json()["payment_hash"]
    return payment_hash


def test_the_audit_closes_with_the_nodes_own_list_and_names_what_is_removed_or_invented(
    lnbits: Lnbits, wallet: Wallet, lnbits_server: Served
) -> None:
    """After all else that ran here: deposits, requests, top-ups, refunds, jobs, a load test, a node that was killed."""
    client, deposit = opened(lnbits_server)
    wallet_pays(lnbits, deposit)
    patiently(lambda: client.show()["state"] == "active", "the deposit did not arrive")
    top_up = client.post("topup", {"amountSats": 500}).json()["topUpInvoice"]
    wallet_pays(lnbits, top_up)
    patiently(lambda: client.show()["depositedMsat"] == 1_500_000, "the top-up did not arrive")
    client.ask()
    client.close()
    settings = at_wallet(lnbits, wallet)
    figures = audited(lnbits_server.data_dir, **settings)
    with closing(sqlite3.connect(lnbits.process.database)) as database:
        received, sent = (database.execute(_SUM.format(sign), (wallet.invoice_key,)).fetchone()[0] for sign in "><")
        assert figures["sessions"]["received"] + figures["jobs"]["received"] == figures["node"]["received"] == received
        assert figures["sessions"]["refunded"] + figures["jobs"]["refunded"] == figures["node"]["paid_out"] == sent
        # While the server ran, it would find what is invented now, and credit it.
        lnbits_server.stop()
        invented = wallet_invents(lnbits, wallet, client.session_id)
        database.execute(_REMOVE, (top_up["paymentHash"],))
        database.commit()
    done, found = audit(lnbits_server.data_dir, **settings)
    told = {difference.get("payment_hash"): difference["what"] for difference in found["differences"]}
    assert done.returncode == 1 and "First difference of" in done.stdout
    assert told[invented] == "the node received a payment that no journal credits"
    assert told[top_up["paymentHash"]] == "a journal credits a payment that the node does not confirm"
