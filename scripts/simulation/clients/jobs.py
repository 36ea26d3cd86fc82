"""Clients of jobs: they open one, pay for it, follow it to its end, and have what is owed paid back."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Final

from ....actors.domain.behaviour import Command, Once
from ....actors.domain.errors import RefusedError
from ....actors.domain.job.state import CreateJob, GetJob, JobView, RefundJob, WatchJob
from ..loop import Chance
from ..model import labelled
from .common import CLIENT, LeftError, Market, destination_of, webhook_of
from .reading import Reading

_FINAL: Final = frozenset({"complete", "rejected", "failed", "expired"})
_STAYS_S: Final = 300.0


@dataclass(eq=False)
class JobClient:
    """Client that made one job."""

    market: Market
    job_id: str
    opened: bool = False
    paid: bool = False
    _shown: JobView | None = None

    async def run(self, chance: Chance) -> None:
        """Open the job, pay for it, and follow it to its end."""
        text = chance.choice(["work", "work", "work", "reject me"])
        named = destination_of(Chance(f"destination {self.job_id}"), self.job_id) if self.market.destinations else None
        command = CreateJob(labelled(self.job_id, text), CLIENT, webhook_of(chance, self.job_id), named)
        view = await self._view(chance, command)
        self.opened = True
        if chance.happens(0.3):
            await self._view(chance, command)
        await self.market.pay(chance, view.eval_invoice)
        if chance.happens(0.4):
            await self._watch(chance, _STAYS_S)
        else:
            await self._follow(chance)

    async def _follow(self, chance: Chance) -> None:
        for _ in range(30):
            view = await self._watch(chance, chance.uniform(0.5, 6)) if chance.happens(0.3) else None
            view = view or await self._view(chance, GetJob())
            await self._pay_for_work(chance, view)
            if view.state.value in _FINAL:
                return
            await self.market.world.pause(chance.uniform(0.3, 4))

    async def _pay_for_work(self, chance: Chance, view: JobView) -> None:
        if view.work_invoice is not None and not self.paid:
            self.paid = True
            await self.market.pay(chance, view.work_invoice)

    async def _watch(self, chance: Chance, stays_s: float) -> JobView | None:
        """Watch for this long, also after a stream broke; return the last view that came.

        A watcher is shown what changes, without asking for it.
        """
        world, view = self.market.world, None
        until_s = world.loop.time() + stays_s
        while (left_s := until_s - world.loop.time()) > 0 and (view is None or view.state.value not in _FINAL):
            self._shown = None
            reading = Reading(self.market, self.job_id, WatchJob(), self._behind_since_s)
            try:
                async with asyncio.timeout(left_s):
                    while True:
                        reply = await reading.next()
                        self.market.auditor.told(self.job_id, reply)
                        view = self._shown = reply
                        await self._pay_for_work(chance, view)
            except TimeoutError:
                break
            except (RefusedError, LeftError):
                await world.pause(chance.uniform(0.1, 1))
            finally:
                reading.leave()
        return view

    def _behind_since_s(self) -> float:
        """Return since when the job differs from what was shown; now, while it does not.

        Before the first view, which is due soon, return 0.
        """
        now_s = self.market.world.loop.time()
        return 0.0 if self._shown is None else self.market.auditor.shown_since_s(self.job_id, self._shown, now_s)

    async def refund(self, chance: Chance) -> None:
        """Have what is owed paid back."""
        view = await self._view(chance, GetJob())
        if view.refund is None or not view.refund.payable_sats:
            return
        most = view.refund.owed_msat.whole_sats if self.market.node.next_is_own else view.refund.payable_sats
        target = self.market.target(max(1, most - chance.choice([0, 0, 1])))
        name = f"k{target.payment_hash[:8]}"
        await self.market.call(chance, self.job_id, RefundJob(target, Once(name, target.payment_hash, True)), name)

    async def _view(self, chance: Chance, command: Command[JobView]) -> JobView:
        return await self.market.call(chance, self.job_id, command)
