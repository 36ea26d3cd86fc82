"""The clients of jobs in a run: they pay, watch, and have what is owed paid back."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from ...actors.domain.behaviour import Once
from ...actors.domain.errors import RefusedError
from ...actors.domain.job import CreateJob, GetJob, JobView, RefundJob, WatchJob
from ...actors.messages import WireCommand, WireReply
from .clients import CLIENT, LeftError, Market, webhook_of
from .loop import Chance
from .model import labelled


@dataclass(eq=False)
class JobClient:
    """Whoever made one job."""

    market: Market
    job_id: str
    opened: bool = False

    async def run(self, chance: Chance) -> None:
        """Opens the job, pays for it, and follows it to its end."""
        text = chance.choice(["work", "work", "work", "reject me"])
        command = CreateJob(labelled(self.job_id, text), CLIENT, webhook_of(chance, self.job_id))
        view = await self._view(chance, command)
        self.opened = True
        if chance.happens(0.3):
            await self._view(chance, command)
        await self.market.pay(chance, view.eval_invoice)
        await self._follow(chance)

    async def _follow(self, chance: Chance) -> None:
        paid = False
        for _ in range(30):
            view = await (self._watched(chance) if chance.happens(0.3) else self._view(chance, GetJob()))
            if view.work_invoice is not None and not paid:
                paid = True
                await self.market.pay(chance, view.work_invoice)
            if view.state.value in {"complete", "rejected", "failed", "expired"}:
                return
            await self.market.world.pause(chance.uniform(0.3, 4))

    async def refund(self, chance: Chance) -> None:
        """Has what is owed paid back."""
        view = await self._view(chance, GetJob())
        if view.refund is None or not view.refund.payable_sats:
            return
        sats = max(1, view.refund.payable_sats - chance.choice([0, 0, 1]))
        target = self.market.node.wallet_invoice(sats)
        name = f"k{target.payment_hash[:8]}"
        await self.market.call(chance, self.job_id, RefundJob(target, Once(name, target.payment_hash, True)), name)

    async def _view(self, chance: Chance, command: WireCommand) -> JobView:
        view = await self.market.call(chance, self.job_id, command)
        assert isinstance(view, JobView)
        return view

    async def _watched(self, chance: Chance) -> JobView:
        """Watches a little, and takes the last view that came."""
        said: asyncio.Queue[WireReply] = asyncio.Queue()
        front = self.market.front()
        reading = front.stream(self.job_id, WatchJob(), said)
        view: JobView | None = None
        try:
            async with asyncio.timeout(chance.uniform(0.5, 6)):
                while True:
                    reply = await self.market.next_of(front, reading, said)
                    self.market.auditor.told(self.job_id, reply)
                    assert isinstance(reply, JobView)
                    view = reply
        except (TimeoutError, RefusedError, LeftError):
            return view or await self._view(chance, GetJob())
        finally:
            reading.cancel()
