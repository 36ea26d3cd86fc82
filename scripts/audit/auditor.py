"""Audit of the books, from every journal's first event to the node's own list of payments (`satmeter audit`).

It may run while the server does: what is under way is looked at again, for some seconds, before it is called a
difference.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from ...actors.adapters.redis.audit import AuditStore
from ...actors.adapters.redis.format import NewerStoreError, check_format
from ...actors.adapters.redis.scan import ActorKey
from ...actors.adapters.redis.sums import KEPT_DAYS
from ...actors.bootstrap import build_behaviours
from ...actors.clock import system_now_ms
from ...actors.domain.behaviour import Behaviour
from ...actors.domain.money import Msat
from ...actors.domain.payments.payouts import LONG_MS, PayoutStatus, PayoutTarget
from ...actors.domain.sums import HOUR_MS
from ...actors.partitioning import PARTITIONS, partition_of
from ...actors.ports import Lightning, PortError, SumsRead
from ...config.settings import Settings
from ..open_store import NoStoreError, parts_of_store
from ..store.embedded import StoreError
from .archive import read_archive
from .difference import Difference
from .hours import hour_differences
from .payments import Claim, Ledger, Pending, Unclaimed
from .replay import Folded, fold
from .totals import Totals, archive_differences

_PAGE: Final = 250
# The treasury settles a payment with its actor within seconds of the node.
_SETTLES_WITHIN_S: Final = 15.0
_LOOK_EVERY_S: Final = 0.5
_ARCHIVED: Final = "archived"
_WALLET_LOOKS: Final = 5
_TOLD_MAX: Final = 100
_DAY_HOURS: Final = 24
_DAY_MS: Final = _DAY_HOURS * HOUR_MS

T = TypeVar("T")


class CannotAuditError(Exception):
    """A reason why the audit can't run: the text says why and what to do.

    There is nothing to audit, or the store or the node does not answer.
    """


class Report(msgspec.Struct, rename="camel"):
    """Result of an audit. Amounts in msat; `differences` holds the first hundred of `difference_count`.

    `partitions_without_total`: no server that keeps running totals has had them yet. `hours_compared`: hours whose sums
    were compared with the journals. `long_pending`: payouts under way for long. `unclaimed`: the largest payments by
    invoices of ours that no session or job has; these are not differences.
    """

    sessions: dict[str, int]
    jobs: dict[str, int]
    archived: dict[str, int]
    node: dict[str, int]
    partitions_without_total: int
    hours_compared: int
    difference_count: int
    differences: list[Difference]
    long_pending: list[Pending]
    unclaimed: list[Unclaimed] = []

    @property
    def liability_msat(self) -> int:
        """Amount that the wallet must hold: all that is the clients', but for what is in payouts under way."""
        return sum(kind[name] for kind in (self.sessions, self.jobs) for name in ("available", "held", "owed"))


class Audit:
    """One audit of a store and its node."""

    def __init__(
        self,
        store: AuditStore,
        lightning: Lightning,
        behaviours: Mapping[str, Behaviour[Any]],
        console: Console,
        *,
        archives: Sequence[Path] = (),
        settles_within_s: float = _SETTLES_WITHIN_S,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
        clock: Callable[[], float] = time.monotonic,
        now_ms: Callable[[], int] = system_now_ms,
    ) -> None:
        self._store = store
        self._lightning = lightning
        self._behaviours = behaviours
        self._archives = archives
        self._settles_within_s = settles_within_s
        self._pause = pause
        self._clock = clock
        self._now_ms = now_ms
        self._ledger = Ledger()
        self._totals = Totals(store, self._ledger, behaviours)
        self._differences: list[Difference] = []
        self._count = 0
        columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
        self._progress = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)

    async def run(self) -> Report:
        """Audit all of it. Raises `PortError` when store or node do not answer."""
        try:
            with self._progress:
                await self._check_owners()
                before_msat = await self._lightning.balance()
                sums = await self._sums()
                await self._fold_all()
                await self._fold_archives()
                await self._compare_totals()
                await self._read_node()
                await self._compare_received()
                await self._compare_sent()
                hours = await self._compare_hours(sums)
            node = {**self._ledger.node_sums(), "wallet": 0}
            sessions, jobs, archived = (self._ledger.sums(kind) for kind in ("ses", "job", _ARCHIVED))
            uncounted, pending = len(self._totals.uncounted), self._ledger.pending(self._now_ms() - LONG_MS)
            unclaimed = self._ledger.unclaimed(_TOLD_MAX)
            report = Report(sessions, jobs, archived, node, uncounted, hours, 0, self._differences, pending, unclaimed)
            await self._check_wallet(report, before_msat)
            report.difference_count = self._count
            return report
        finally:
            self._ledger.close()

    def _differs(self, difference: Difference) -> None:
        self._count += 1
        if len(self._differences) < _TOLD_MAX:
            self._differences.append(difference)

    # The store

    async def _check_owners(self) -> None:
        for partition, keys in enumerate(await self._store.partitions()):
            if keys.epoch is None and keys.owner is None:
                continue
            if keys.epoch is None or not keys.epoch.isdigit() or int(keys.epoch) < 1:
                self._differs(Difference(f"partition {partition} has an owner without an epoch above 0"))
            if not keys.owner:
                self._differs(Difference(f"partition {partition} has an epoch without an owner"))

    async def _fold_all(self) -> None:
        task = self._progress.add_task("Looking for journals", total=None)
        total = 0
        async for keys in self._store.actors():
            total += len(keys)
            self._progress.update(task, completed=total)
        self._progress.update(task, completed=0, total=total, description="Folding journals")
        await self._fold_new(task)

    async def _fold_new(self, task: TaskID | None = None) -> None:
        async for keys in self._store.actors():
            for stored in await self._store.read(self._ledger.unknown(keys)):
                folded = await fold(stored, self._store, self._behaviours)
                self._put(stored.key, stored.length, folded)
                for difference in folded.differences:
                    self._differs(difference)
            if task is not None:
                self._progress.advance(task, len(keys))

    async def _fold_archives(self) -> None:
        """Fold the archives, but for actors that are still in the store and so were folded from there.

        An actor is in both when a run of `satmeter archive` was cut off.
        """
        for path in self._archives:
            for stored in read_archive(path):
                if isinstance(stored, str):
                    self._differs(Difference(stored))
                    continue
                for key in self._ledger.unknown([stored.key]):
                    folded = await fold(stored, self._store, self._behaviours)
                    self._put(key, stored.length, folded, _ARCHIVED)
                    for difference in folded.differences:
                        self._differs(difference)
        for difference in archive_differences(self._ledger.sums(_ARCHIVED), await self._store.archived()):
            self._differs(difference)

    def _put(self, key: ActorKey, length: int, folded: Folded, kind: str | None = None) -> None:
        self._ledger.put(key, length, folded.books, kind)
        self._ledger.put_hours(folded.hours)

    async def _sums(self) -> SumsRead:
        """Return the store's hourly sums of all days that it keeps, but for the first, which may expire meanwhile."""
        today = self._now_ms() // _DAY_MS
        return await self._store.sums(range(today - KEPT_DAYS + 2, today + 2))

    async def _compare_hours(self, before: SumsRead) -> int:
        """Compare the hourly sums with the journals; return how many hours that were.

        Journals that do not agree in themselves give other sums, which would only hide the cause.
        """
        after = await self._sums()
        if self._count or before.from_hour is None or after.from_hour is None:
            return 0
        today = self._now_ms() // _DAY_MS
        from_hour = max(after.from_hour, (today - KEPT_DAYS + 3) * _DAY_HOURS)
        until_hour = (today + 1) * _DAY_HOURS
        journals = self._ledger.hours()
        for difference in hour_differences(journals, before.sums, after.sums, from_hour, until_hour):
            self._differs(difference)
        return len({hour for hour, _ in journals if from_hour <= hour < until_hour})

    async def _compare_totals(self) -> None:
        """Compare the running totals of partitions, each with its journals at one moment."""
        task = self._progress.add_task("Comparing totals", total=PARTITIONS)
        wrong = []
        for partition in range(PARTITIONS):
            if await self._totals.difference(partition) is not None:
                wrong.append(partition)
            self._progress.advance(task)
        if wrong:
            # Actors that came after the journals were read are in the totals, too.
            await self._fold_new()
        for partition in wrong:
            if (difference := await self._totals.difference(partition)) is not None:
                self._differs(difference)

    async def _again(self, actor_id: str) -> Folded | None:
        """Return the actor folded as it is by now; None when there is none."""
        for stored in await self._store.read([ActorKey(partition_of(actor_id), actor_id)]):
            return await fold(stored, self._store, self._behaviours)
        return None

    # The node

    async def _read_node(self) -> None:
        """Read the node's lists.

        This comes after the journals: what these credit must be in its list by now.
        """
        async for page in self._pages("Reading what the node received", self._lightning.settlements):
            ahead = [settlement.payment_hash for settlement in page if settlement.made_ahead]
            self._ledger.put_received(page, await self._store.owners_of_invoices(ahead))
        self._ledger.own_by_journals()
        async for payments in self._pages("Reading what the node paid out", self._lightning.sent):
            self._ledger.put_sent(payments)

    async def _pages(
        self, description: str, ask: Callable[[int, int], Awaitable[Sequence[T]]]
    ) -> AsyncIterator[Sequence[T]]:
        task, offset = self._progress.add_task(description, total=None), 0
        while page := await ask(_PAGE, offset):
            offset += _PAGE
            self._progress.advance(task, len(page))
            yield page

    # Comparing

    async def _compare_received(self) -> None:
        async def credited(claim: Claim) -> bool:
            folded = await self._again(claim.actor_id)
            return folded is not None and (claim.payment_hash, claim.amount_msat) in folded.books.credits

        for claim in await self._still(list(self._ledger.not_credited()), credited):
            what = "the node received a payment that no journal credits"
            if await self._again(claim.actor_id) is None:
                what += ", for an actor that does not exist"
            self._differs(_difference(what, claim, f"{claim.amount_msat} msat", "nothing"))
        for node, journal in self._ledger.credited_otherwise():
            expected, found = (f"{side.amount_msat} msat for {side.actor_id}" for side in (node, journal))
            self._differs(_difference("a payment is not credited as the node received it", journal, expected, found))
        for what, payment_hash, count, actors in self._ledger.twice():
            self._differs(Difference(what, None, payment_hash, "once", f"{count} times, by {actors}"))
        for claim in self._ledger.unconfirmed():
            # The list may pass over a payment while it grows; asked about that payment, the node knows it.
            settlement = await self._lightning.lookup(claim.payment_hash)
            if settlement is None or settlement.amount_msat.value != claim.amount_msat:
                found = "nothing" if settlement is None else f"{settlement.amount_msat.value} msat"
                what = "a journal credits a payment that the node does not confirm"
                self._differs(_difference(what, claim, f"{claim.amount_msat} msat", found))

    async def _compare_sent(self) -> None:
        async def told(claim: Claim) -> bool:
            folded = await self._again(claim.actor_id)
            payouts = folded.books.payouts if folded else ()
            return any(p.payment_hash == claim.payment_hash and p.state in ("paid", "pending") for p in payouts)

        for claim in await self._still(list(self._ledger.untold()), told):
            what = "the node paid out what no journal says was paid"
            self._differs(_difference(what, claim, f"{claim.amount_msat} msat", "nothing"))
        for payment_hash, actor_id, expected, found in self._ledger.sent_otherwise():
            what = "a payout is not in the journal as the node made it"
            self._differs(Difference(what, actor_id, payment_hash, expected, found))
        for claim in self._ledger.not_sent():
            target = PayoutTarget("", claim.payment_hash, Msat(claim.amount_msat))
            report = await self._lightning.payout(target, claim.actor_id)
            if report.status is not PayoutStatus.PAID:
                what = "a journal says that a payout was paid, and the node does not"
                self._differs(_difference(what, claim, f"{claim.amount_msat} msat paid", report.status.value))

    async def _still(self, claims: list[Claim], agrees: Callable[[Claim], Awaitable[bool]]) -> list[Claim]:
        """Return those of the claims that do not agree, however often they are looked at."""
        deadline_s = self._clock() + self._settles_within_s
        while claims := [claim for claim in claims if not await agrees(claim)]:
            if self._clock() > deadline_s:
                break
            await self._pause(_LOOK_EVERY_S)
        return claims

    async def _check_wallet(self, report: Report, before_msat: Msat) -> None:
        """Check that the wallet holds what is its clients'.

        The journals were read one after the other. If the wallet is short by them, it is looked at again by the running
        totals.
        """
        wallet_msat = await self._lightning.balance()
        report.node["wallet"] = wallet_msat.value
        must_hold = report.liability_msat
        for _ in range(_WALLET_LOOKS):
            if max(before_msat, wallet_msat).value >= must_hold:
                return
            await self._pause(_LOOK_EVERY_S)
            totals, before_msat = await self._store.liability(), wallet_msat
            must_hold = must_hold if totals.uncounted else totals.msat
            wallet_msat = await self._lightning.balance()
        expected, found = f"at least {must_hold} msat", f"{wallet_msat.value} msat"
        self._differs(Difference("the wallet holds less than what is its clients'", None, None, expected, found))


def _difference(what: str, claim: Claim, expected: str, found: str) -> Difference:
    return Difference(what, claim.actor_id, claim.payment_hash, expected, found)


async def audit(settings: Settings, archives: Sequence[Path], console: Console) -> Report:
    """Audit the store of these settings; start the embedded one if no server does. Raises `CannotAuditError`."""
    try:
        async with parts_of_store(settings) as parts:
            await check_format(parts.redis)
            store = AuditStore(parts.redis)
            return await Audit(store, parts.lightning, build_behaviours(settings), console, archives=archives).run()
    except PortError as error:
        raise CannotAuditError(f"The books can't be read just now: {str(error).rstrip('.')}.") from None
    except (StoreError, NewerStoreError, NoStoreError, OSError, ValueError) as error:
        raise CannotAuditError(str(error)) from None
