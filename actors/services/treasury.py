"""Treasury, the settlement watch: it finds out what was paid, by the node's own word, and notifies the actors."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final

import structlog
from msgspec.structs import replace

from ...config.log_context import log_as, tell_step, tells_steps
from ..cancellation import cancel_and_wait
from ..domain.backoff import Backoff
from ..domain.errors import Code, RefusedError
from ..domain.payments.invoices import Settlement
from ..ports import Bindings, Lightning, PortError
from .watch import Outage, Pacer, Recent

_log = structlog.get_logger(__name__)

_PAGE: Final = 100
_BACKOFF_FIRST_S: Final = 0.25
_BACKOFF_MAX_S: Final = 10.0
# A push connection that held so long was a good one. The next attempt comes at once, and its loss is logged.
_STEADY_S: Final = 10.0
_LOOKUPS_AT_ONCE: Final = 4
# This many waiting hints are a burst of payments, or a flood.
_BURST: Final = 10
_SWEEP_GAP_S: Final = 0.1
_DELIVERIES_AT_ONCE: Final = 256
_DELIVERY_TIMEOUT_S: Final = 30.0
_UNDELIVERED_MAX: Final = 10_000

Deliver = Callable[[Settlement], Awaitable[None]]
"""Notifies an actor of a settlement, for good once it has returned. The actor credits a payment hash once."""


class Treasury:
    """Watch for settled payments at the node, until it is cancelled. Runs once; one for a cluster is enough.

    A payment is credited only by the node's answer to an authenticated call. Hints only make it ask sooner: they are
    forgeable, so asking is limited to `lookups_per_s`, and lossy, so a sweep asks for the newest settlements every
    `sweep_interval_s`. A sweep goes on until a page (of 100) holds nothing new, at most `sweep_pages_max` pages; at the
    start, and after a connection for hints was lost, it reads `deep_pages_max` pages whatever they hold.

    The set of delivered settlements is in memory alone. After a restart the newest settlements are delivered again,
    which the actors answer with "replayed". Settlements beyond a deep sweep are found when their invoice lapses and is
    looked up.
    """

    def __init__(
        self,
        lightning: Lightning,
        bindings: Bindings,
        deliver: Deliver,
        *,
        sweep_interval_s: float,
        lookups_per_s: float = 50.0,
        hints_max: int = 1_000,
        sweep_pages_max: int = 10,
        deep_pages_max: int = 50,
        delivered_max: int = 20_000,
        clock: Callable[[], float] = time.monotonic,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._lightning = lightning
        self._bindings = bindings
        self._deliver = deliver
        self._sweep_interval_s = sweep_interval_s
        self._sweep_pages_max = sweep_pages_max
        self._deep_pages_max = deep_pages_max
        self._clock = clock
        self._pause = pause
        self._pacer = Pacer(1 / lookups_per_s, clock, pause)
        self._hints: asyncio.Queue[str] = asyncio.Queue(hints_max)
        self._hinted: set[str] = set()
        self._done = Recent(delivered_max)
        self._delivering: set[str] = set()
        self._undelivered: dict[str, Settlement] = {}
        self._delivery_slots = asyncio.Semaphore(_DELIVERIES_AT_ONCE)
        self._deep = True
        self._sweep_now = asyncio.Event()
        self._node = Outage("lightning_node")
        self._push = Outage("lightning_hints")
        self._group = asyncio.TaskGroup()
        self._running: asyncio.Task[None] | None = None

    async def run(self) -> None:
        """Watch until cancelled. Deliveries under way are cancelled with it: they are repeated after a restart."""
        self._running = asyncio.current_task()
        async with self._group:
            self._group.create_task(self._listen())
            self._group.create_task(self._sweep_for_ever())
            for _ in range(_LOOKUPS_AT_ONCE):
                self._group.create_task(self._confirm_hints())

    async def close(self) -> None:
        """End `run` and all that it started."""
        await cancel_and_wait([self._running])

    # Hints

    async def _listen(self) -> None:
        """Take hints, and connect again whenever the connection breaks."""
        backoff = Backoff(_BACKOFF_FIRST_S, _BACKOFF_MAX_S)
        while True:
            since_s = self._clock()
            heard, error = await self._listen_once()
            steady = self._clock() - since_s >= _STEADY_S
            if steady:
                self._push.recovered()
                backoff.reset()
            self._push.failed(error)
            await self._pause(backoff.next())
            if steady or heard:
                # Payments between two connections gave no hint.
                self._deep = True
                self._sweep_now.set()

    async def _listen_once(self) -> tuple[bool, Exception | None]:
        """Take hints until the connection ends; return whether any came, and what it broke with."""
        heard = False
        try:
            async for payment_hash in self._lightning.hints():
                heard = True
                self._push.recovered()
                self._take_hint(payment_hash)
        except Exception as error:
            return heard, error
        return heard, None

    def _take_hint(self, payment_hash: str) -> None:
        if self._is_known(payment_hash) or payment_hash in self._hinted:
            return
        if self._hints.qsize() >= _BURST:
            # One question about the newest settlements answers all of them sooner than one about each.
            self._sweep_now.set()
        if self._hints.full():
            return  # A full queue is a flood, most of it forged. The sweep finds the true ones.
        self._hinted.add(payment_hash)
        self._hints.put_nowait(payment_hash)

    async def _confirm_hints(self) -> None:
        """Ask the node about one hint after the other."""
        while True:
            payment_hash = await self._hints.get()
            if self._is_known(payment_hash):
                self._hinted.discard(payment_hash)
                continue
            await self._pacer.turn()
            try:
                settlement = await self._lightning.lookup(payment_hash)
            except PortError:
                settlement = None  # The sweep asks the same node, and logs its outage.
            except Exception:
                _log.exception("hint_look_up_broke")
                settlement = None
            finally:
                self._hinted.discard(payment_hash)
            if settlement is not None:
                await self._take_up([settlement])

    # Sweeps

    async def _sweep_for_ever(self) -> None:
        """Sweep, less and less often while the node is down."""
        interval_s = self._sweep_interval_s
        backoff = Backoff(2 * interval_s, max(_BACKOFF_MAX_S, interval_s))
        while True:
            self._sweep_now.clear()
            try:
                await self._sweep()
            except Exception as error:
                self._node.failed(error)
                delay_s = backoff.next()
            else:
                self._node.recovered()
                backoff.reset()
                delay_s = interval_s
            await self._rest(delay_s)

    async def _sweep(self) -> None:
        await self._take_up(list(self._undelivered.values()))
        deep, self._deep = self._deep, False
        try:
            await self._read_pages(deep)
        except BaseException:
            self._deep = self._deep or deep
            raise

    async def _read_pages(self, deep: bool) -> None:
        for number in range(self._deep_pages_max if deep else self._sweep_pages_max):
            page = await self._lightning.settlements(_PAGE, number * _PAGE)
            news = [settlement for settlement in page if not self._is_known(settlement.payment_hash)]
            await self._take_up(news)
            if not page or not (news or deep):
                return
        # More news than a sweep takes: the rest must not wait for the next broken connection.
        self._deep = self._deep or not deep

    async def _rest(self, delay_s: float) -> None:
        """Wait until the delay is over or a sweep is wanted at once.

        In the second case, wait a moment more, so that hints can't drive the sweeps.
        """
        waits = [asyncio.ensure_future(self._pause(delay_s)), asyncio.create_task(self._sweep_now.wait())]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
        if self._sweep_now.is_set():
            await self._pause(_SWEEP_GAP_S)

    # Deliveries

    def _is_known(self, payment_hash: str) -> bool:
        """Return whether a payment was delivered, is being delivered, or is kept for another attempt."""
        return payment_hash in self._done or payment_hash in self._delivering or payment_hash in self._undelivered

    async def _take_up(self, settlements: Sequence[Settlement]) -> None:
        """Start deliveries. Waits while too many are under way, but not for these.

        One host that is down must not hold up deliveries to others.
        """
        taken: list[Settlement] = []
        for settlement in settlements:
            payment_hash = settlement.payment_hash
            if payment_hash in self._done or payment_hash in self._delivering:
                continue
            if settlement.actor_id is None:
                self._done.add(payment_hash)  # The payment is another user's of our wallet.
                continue
            self._delivering.add(payment_hash)
            taken.append(settlement)
        for settlement in await self._with_owners(taken):
            await self._delivery_slots.acquire()
            self._group.create_task(self._credit(settlement))

    async def _with_owners(self, settlements: Sequence[Settlement]) -> list[Settlement]:
        """Return these settlements with the owners of invoices made ahead, unless the owner can't be read now."""
        ahead = [settlement for settlement in settlements if settlement.made_ahead]
        owners: Mapping[str, str | None] = {}
        try:
            if ahead:
                owners = await self._bindings.owners_of_paid([settlement.payment_hash for settlement in ahead])
        except Exception as error:
            for settlement in ahead:
                self._keep(settlement, error)
                self._delivering.discard(settlement.payment_hash)
            return [settlement for settlement in settlements if not settlement.made_ahead]
        return [owned for settlement in settlements if (owned := self._owned(settlement, owners)) is not None]

    def _owned(self, settlement: Settlement, owners: Mapping[str, str | None]) -> Settlement | None:
        payment_hash = settlement.payment_hash
        if not settlement.made_ahead:
            return settlement
        owner = owners.get(payment_hash)
        if owner is not None:
            return replace(settlement, actor_id=owner)
        if payment_hash in owners:
            # A binding comes before a client sees an invoice. So a user of our own wallet has paid one that was kept
            # ready, or the invoice is of a server with another store.
            hint = (
                "a server with another store takes payments at this node, or took some: give each a wallet of its own"
            )
            _log.error("payment_of_unowned_invoice", **_described(settlement), hint=hint)
        self._settled(payment_hash)
        self._delivering.discard(payment_hash)
        return None

    async def _credit(self, settlement: Settlement) -> None:
        payment_hash = settlement.payment_hash
        log_as("", settlement.actor_id or "")
        try:
            async with asyncio.timeout(_DELIVERY_TIMEOUT_S):
                await self._deliver(settlement)
        except Exception as error:
            if isinstance(error, RefusedError) and error.refusal.code is Code.NOT_FOUND:
                _log.error("payment_without_owner", **_described(settlement))
                self._settled(payment_hash)
            else:
                self._keep(settlement, error)
        else:
            self._settled(payment_hash)
            if tells_steps():
                tell_step("payment_delivered", **_described(settlement))
        finally:
            self._delivering.discard(payment_hash)
            self._delivery_slots.release()

    def _settled(self, payment_hash: str) -> None:
        self._done.add(payment_hash)
        self._undelivered.pop(payment_hash, None)

    def _keep(self, settlement: Settlement, error: Exception) -> None:
        """Remember a settlement for the next sweep."""
        if settlement.payment_hash in self._undelivered:
            return
        if len(self._undelivered) >= _UNDELIVERED_MAX:
            self._deep = True  # A deep sweep finds it again among the node's newest.
            return
        self._undelivered[settlement.payment_hash] = settlement
        reason = error.refusal.code.value if isinstance(error, RefusedError) else type(error).__name__
        _log.warning("payment_not_delivered_yet", reason=reason, **_described(settlement))


def _described(settlement: Settlement) -> dict[str, str | int | None]:
    return {
        "payment_hash": settlement.payment_hash,
        "amount_msat": settlement.amount_msat.value,
        "actor_id": settlement.actor_id,
    }
