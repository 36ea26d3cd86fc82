"""Payments as the journals and as the node report them, side by side in a temporary database on disk.

So an audit needs no more memory for a hundred thousand actors than for ten.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

import msgspec

from ...actors.adapters.redis.scan import ActorKey
from ...actors.domain.payments.invoices import Settlement
from ...actors.domain.payments.payouts import SentPayment
from .books import Books
from .hours import Hours

_TABLES: Final = """
CREATE TABLE actors (id TEXT, partition INT, length INT, kind TEXT, received INT, available INT, held INT,
                     spent INT, owed INT, pending INT, refunded INT, fees INT, uncovered INT,
                     PRIMARY KEY (id, partition)) WITHOUT ROWID;
CREATE INDEX actor_partitions ON actors (partition);
CREATE TABLE invoices (hash TEXT PRIMARY KEY, actor TEXT) WITHOUT ROWID;
CREATE TABLE credits (hash TEXT, actor TEXT, msat INT);
CREATE INDEX credit_hashes ON credits (hash);
CREATE TABLE payouts (hash TEXT, actor TEXT, msat INT, reserve INT, fee INT, uncovered INT, state TEXT, since INT);
CREATE INDEX payout_hashes ON payouts (hash);
CREATE TABLE received (hash TEXT PRIMARY KEY, actor TEXT, msat INT, kept INT, is_foreign INT) WITHOUT ROWID;
-- Neither a binding nor a journal knows these.
CREATE VIEW unowned AS SELECT * FROM received r WHERE actor IS NULL
AND NOT EXISTS (SELECT 1 FROM credits c WHERE c.hash = r.hash);
CREATE TABLE sent (row TEXT PRIMARY KEY, hash TEXT, actor TEXT, msat INT, fee INT) WITHOUT ROWID;
CREATE INDEX sent_hashes ON sent (hash);
CREATE TABLE hours (hour INT, name TEXT, amount INT, PRIMARY KEY (hour, name)) WITHOUT ROWID;
"""
_PUT_ACTOR: Final = "INSERT INTO actors VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
_ADD_TO_HOUR: Final = """
INSERT INTO hours VALUES (?, ?, ?) ON CONFLICT (hour, name) DO UPDATE SET amount = amount + excluded.amount"""
_SUM_ACTORS: Final = """
SELECT count(*), coalesce(sum(received), 0), coalesce(sum(available), 0), coalesce(sum(held), 0),
       coalesce(sum(spent), 0), coalesce(sum(owed), 0), coalesce(sum(pending), 0), coalesce(sum(refunded), 0),
       coalesce(sum(fees), 0), coalesce(sum(uncovered), 0) FROM actors WHERE kind = ?"""
_SUM_RECEIVED: Final = "SELECT coalesce(sum(msat), 0), coalesce(sum(kept), 0) FROM received"
_SUM_UNOWNED: Final = "SELECT coalesce(sum(msat), 0), coalesce(sum(kept), 0) FROM unowned WHERE is_foreign = ?"
_UNCLAIMED: Final = "SELECT hash, msat FROM unowned WHERE NOT is_foreign ORDER BY msat DESC, hash LIMIT ?"
_OWN_BY_JOURNALS: Final = """
UPDATE received SET actor = (SELECT i.actor FROM invoices i WHERE i.hash = received.hash) WHERE actor IS NULL"""
_NOT_CREDITED: Final = """
SELECT r.hash, r.actor, r.msat FROM received r WHERE r.actor IS NOT NULL
AND NOT EXISTS (SELECT 1 FROM credits c WHERE c.hash = r.hash)"""
_CREDITED_OTHERWISE: Final = """
SELECT r.hash, r.actor, r.msat, c.actor, c.msat FROM received r JOIN credits c USING (hash)
WHERE c.msat != r.msat OR c.actor != r.actor"""
_CREDITED_TWICE: Final = "SELECT hash, count(*), group_concat(actor) FROM credits GROUP BY hash HAVING count(*) > 1"
_UNCONFIRMED: Final = """
SELECT c.hash, c.actor, c.msat FROM credits c WHERE NOT EXISTS (SELECT 1 FROM received r WHERE r.hash = c.hash)"""
_NOT_SENT: Final = """
SELECT p.hash, p.actor, p.msat FROM payouts p WHERE p.state = 'paid'
AND NOT EXISTS (SELECT 1 FROM sent s WHERE s.hash = p.hash AND s.actor = p.actor)"""
_SENT_OTHERWISE: Final = """
SELECT p.hash, p.actor, p.msat, p.fee + coalesce(p.uncovered, max(s.fee - p.reserve, 0)), s.msat, s.fee
FROM payouts p JOIN sent s USING (hash) WHERE p.state = 'paid' AND p.actor = s.actor
AND (p.msat != s.msat OR p.fee != min(s.fee, p.reserve)
     OR p.uncovered != max(s.fee - p.reserve, 0))"""
_UNTOLD: Final = """
SELECT s.hash, s.actor, s.msat FROM sent s
WHERE NOT EXISTS (SELECT 1 FROM payouts p WHERE p.hash = s.hash AND p.actor = s.actor AND p.state = 'paid')"""
_SENT_TWICE: Final = "SELECT hash, count(*), group_concat(actor) FROM sent GROUP BY hash HAVING count(*) > 1"
_PAID_TWICE: Final = """
SELECT hash, count(*), group_concat(actor) FROM payouts WHERE state = 'paid' GROUP BY hash HAVING count(*) > 1"""
_PENDING: Final = """
SELECT hash, actor, msat, since FROM payouts WHERE state = 'pending' AND since <= ? ORDER BY since"""

SUMS: Final = ("received", "available", "held", "spent", "owed", "pending", "refunded", "fees", "uncovered")


class Claim(NamedTuple):
    """Claim of one side about a payment."""

    payment_hash: str
    actor_id: str
    amount_msat: int


class Pending(msgspec.Struct, rename="camel"):
    """Payout whose end the node has not told, since `since_ms`."""

    payment_hash: str
    actor_id: str
    amount_msat: int
    since_ms: int


class Unclaimed(msgspec.Struct, rename="camel"):
    """Payment by an invoice of ours that no session or job has."""

    payment_hash: str
    amount_msat: int


class Ledger:
    """Ledger that is filled with what was read, and lists what does not agree in it."""

    def __init__(self) -> None:
        # Without a name, the database is a file of its own that is gone with the connection, however this process ends.
        self._db = sqlite3.connect("")
        self._db.executescript("PRAGMA synchronous = OFF; PRAGMA journal_mode = OFF;" + _TABLES)

    def close(self) -> None:
        """Remove the database."""
        self._db.close()

    def unknown(self, actors: Iterable[ActorKey]) -> list[ActorKey]:
        """Return those of these actors that the ledger does not hold."""
        query = "SELECT 1 FROM actors WHERE id = ? AND partition = ?"
        return [key for key in dict.fromkeys(actors) if not self._one(query, key.actor_id, key.partition)]

    def put(self, key: ActorKey, length: int, books: Books, kind: str | None = None) -> None:
        """Put an actor's books at this length of its journal, as one of its kind or of another."""
        values = [getattr(books, name) for name in SUMS]
        kind = kind or key.actor_id.partition("_")[0]
        self._db.execute(_PUT_ACTOR, [key.actor_id, key.partition, length, kind, *values])
        invoices = [(payment_hash, key.actor_id) for payment_hash in books.invoices]
        self._db.executemany("INSERT OR IGNORE INTO invoices VALUES (?, ?)", invoices)
        rows = [(payment_hash, key.actor_id, amount) for payment_hash, amount in books.credits]
        self._db.executemany("INSERT INTO credits VALUES (?, ?, ?)", rows)
        payouts = [
            (
                p.payment_hash,
                key.actor_id,
                p.amount_msat,
                p.reserve_msat,
                p.fee_msat,
                p.uncovered_msat,
                p.state,
                p.since_ms,
            )
            for p in books.payouts
        ]
        self._db.executemany("INSERT INTO payouts VALUES (?, ?, ?, ?, ?, ?, ?, ?)", payouts)

    def put_hours(self, hours: Hours) -> None:
        """Add an actor's hourly sums to those of all."""
        self._db.executemany(_ADD_TO_HOUR, [(hour, name, amount) for (hour, name), amount in hours.items()])

    def hours(self) -> Hours:
        """Return the hourly sums of all actors."""
        return {(hour, name): amount for hour, name, amount in self._db.execute("SELECT * FROM hours")}

    def put_received(self, settlements: Sequence[Settlement], owners: Mapping[str, str]) -> None:
        """Put a page of the node's list of what came in for us, with the owners of invoices that were made ahead."""
        rows = [
            (
                s.payment_hash,
                owners.get(s.payment_hash) if s.made_ahead else s.actor_id,
                s.amount_msat.value,
                s.kept_msat.value,
                s.foreign,
            )
            for s in settlements
            if s.actor_id is not None
        ]
        self._db.executemany("INSERT OR IGNORE INTO received VALUES (?, ?, ?, ?, ?)", rows)

    def own_by_journals(self) -> None:
        """Give what was received without an owner to the actor whose journal has the invoice.

        A binding ends some days after its invoice, and a store may lose one; what the journal keeps stays ours.
        """
        self._db.execute(_OWN_BY_JOURNALS)

    def put_sent(self, payments: Sequence[SentPayment]) -> None:
        """Put a page of the node's list of what went out for our actors."""
        rows = [
            (p.row_id or p.payment_hash, p.payment_hash, p.actor_id, p.amount_msat.value, p.fee_msat.value)
            for p in payments
            if p.actor_id
        ]
        self._db.executemany("INSERT OR IGNORE INTO sent VALUES (?, ?, ?, ?, ?)", rows)

    def pending(self, until_ms: int) -> list[Pending]:
        """Return payouts under way that began by then, the oldest first."""
        return [Pending(*row) for row in self._db.execute(_PENDING, [until_ms])]

    def unclaimed(self, limit: int) -> list[Unclaimed]:
        """Return payments by invoices of ours without an owner, the largest first."""
        return [Unclaimed(*row) for row in self._db.execute(_UNCLAIMED, [limit])]

    def in_partition(self, partition: int) -> list[tuple[str, int, int]]:
        """Return id, length of journal, and what the wallet must hold, of each actor."""
        query = "SELECT id, length, available + held + owed FROM actors WHERE partition = ?"
        return list(self._db.execute(query, [partition]))

    # Sums

    def sums(self, kind: str) -> dict[str, int]:
        """Return the sums of the books of all actors of a kind, in msat, and how many there are."""
        count, *values = self._one(_SUM_ACTORS, kind)
        return {"actors": count, **dict(zip(SUMS, values, strict=True))}

    def node_sums(self) -> dict[str, int]:
        """Return the sums of the node's own lists in msat.

        `unclaimed`: received by invoices of ours without an owner. `foreign`: by those that another store's server or
        a stranger made; `received` leaves it out. `kept`: what the node kept of what was received.
        """
        received, kept = self._one(_SUM_RECEIVED)
        (unclaimed, _), (foreign, kept_of_foreign) = self._one(_SUM_UNOWNED, False), self._one(_SUM_UNOWNED, True)
        paid_out, fees = self._one("SELECT coalesce(sum(msat), 0), coalesce(sum(fee), 0) FROM sent")
        return {
            "received": received - foreign,
            "unclaimed": unclaimed,
            "foreign": foreign,
            "kept": kept - kept_of_foreign,
            "paid_out": paid_out,
            "fees": fees,
        }

    # Differences

    def not_credited(self) -> Iterator[Claim]:
        """Return payments that the node received and no journal credits."""
        return (Claim(*row) for row in self._db.execute(_NOT_CREDITED))

    def unconfirmed(self) -> Iterator[Claim]:
        """Return payments that journals credit and the node's list lacks."""
        return (Claim(*row) for row in self._db.execute(_UNCONFIRMED))

    def credited_otherwise(self) -> Iterator[tuple[Claim, Claim]]:
        """Yield the node's and the journal's claims where they differ in actor or amount."""
        for payment_hash, *node, actor_id, amount_msat in self._db.execute(_CREDITED_OTHERWISE):
            yield Claim(payment_hash, *node), Claim(payment_hash, actor_id, amount_msat)

    def not_sent(self) -> Iterator[Claim]:
        """Return payouts that were paid by the journals and that the node's list lacks."""
        return (Claim(*row) for row in self._db.execute(_NOT_SENT))

    def untold(self) -> Iterator[Claim]:
        """Return payouts that the node made and that no journal says were paid."""
        return (Claim(*row) for row in self._db.execute(_UNTOLD))

    def sent_otherwise(self) -> Iterator[tuple[str, str, str, str]]:
        """Yield payment hash, actor, and the amounts by node and by journal, where these differ."""
        for payment_hash, actor_id, amount, fee, node_amount, node_fee in self._db.execute(_SENT_OTHERWISE):
            yield (
                payment_hash,
                actor_id,
                f"{node_amount} msat and {node_fee} msat fee",
                f"{amount} msat and {fee} msat fee",
            )

    def twice(self) -> Iterator[tuple[str, str, int, str]]:
        """Yield events that happened more than once: in words, with payment hash, count and actors."""
        for what, query in (
            ("a payment is credited more than once", _CREDITED_TWICE),
            ("the node paid an invoice out more than once", _SENT_TWICE),
            ("journals say that an invoice was paid out more than once", _PAID_TWICE),
        ):
            for payment_hash, count, actors in self._db.execute(query):
                yield what, payment_hash, count, actors

    def _one(self, query: str, *values: Any) -> Any:
        return self._db.execute(query, values).fetchone()
