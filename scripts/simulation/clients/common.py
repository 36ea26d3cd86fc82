"""Market where the clients of a run meet the server: they call, come back with the same key after a failure, pay."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from msgspec.structs import replace

from ....actors.domain.behaviour import Command
from ....actors.domain.errors import Code, RefusedError
from ....actors.domain.job.state import RefundJob
from ....actors.domain.money import Msat
from ....actors.domain.payments.invoices import Invoice
from ....actors.domain.payments.payouts import PayoutTarget
from ....actors.domain.session.messages import CloseSession
from ....actors.domain.webhooks import Webhook
from ....actors.messages import ReplyT
from ..books.auditor import Auditor
from ..books.waiting import OverdueError, Waiting
from ..cluster import FrontProcess
from ..loop import Chance, DiedError
from ..node import SimulatedNode
from ..world import Fault, World

CLIENT: Final = "digest-of-an-address"
NOT_CHARGED: Final = "nothing was charged"
_TRIES: Final = 6
# The front waits this long for the end of a payout. Then it reports that the payout may still succeed.
_PAYOUT_WITHIN_S: Final = 8.0


def webhook_of(chance: Chance, actor_id: str, low_sats: int = 0) -> Webhook | None:
    """Return the webhook that a client names, if it wants notices."""
    return Webhook(f"https://{actor_id}.example/", Msat.from_sats(low_sats)) if chance.happens(0.4) else None


def destination_of(chance: Chance, actor_id: str, number: int = 0) -> str | None:
    """Return the destination that a client names, if it wants refunds to come by themselves."""
    return f"{actor_id}.{number}@wallet.example" if chance.happens(0.7) else None


class LeftError(Exception):
    """Departure of a client, which does not know what became of its command."""


@dataclass(eq=False)
class Market:
    """Market of a run. `front` returns the front that runs just now. `destinations`: see `has_destinations`."""

    world: World
    node: SimulatedNode
    auditor: Auditor
    front: Callable[[], FrontProcess]
    waiting: Waiting
    destinations: bool = False

    async def call(
        self, chance: Chance, actor_id: str, command: Command[ReplyT], name: str = "", label: str = ""
    ) -> ReplyT:
        """Return the actor's answer, after more attempts if the command has a key or is harmless to repeat.

        `label`: the label under which the model works for it, if it does. Raises `RefusedError`; `LeftError` when no
        attempt brought an answer.
        """
        keyed = name == "" or name.startswith("k")
        for _ in range(_TRIES if keyed else 1):
            try:
                reply = await self._answer(actor_id, command, f"{type(command).__name__} {name}", label)
            except DiedError:
                await self.world.pause(chance.uniform(0.1, 1))
                continue
            except TimeoutError:
                continue
            except RefusedError as error:
                self.world.tell(f"  {actor_id} refuses {type(command).__name__} {name}: {error.refusal.code}")
                if error.refusal.code is not Code.UNAVAILABLE:
                    raise
                if not keyed and NOT_CHARGED in error.refusal.message:
                    self.auditor.refused(actor_id, name)
                await self.world.pause(chance.uniform(0.2, 3))
                continue
            self.world.tell(f"  {actor_id} answers {type(command).__name__} {name}")
            self.auditor.told(actor_id, reply, name)
            return reply
        raise LeftError

    async def _answer(self, actor_id: str, command: Command[ReplyT], what: str, label: str) -> ReplyT:
        call = self.front().call(actor_id, command)
        if isinstance(command, RefundJob) or (isinstance(command, CloseSession) and command.target is not None):
            async with asyncio.timeout(_PAYOUT_WITHIN_S):
                return await call
        try:
            return await self.waiting.answer(call, f"{actor_id}: {what}", label)
        except OverdueError:
            raise LeftError from None

    def target(self, sats: int, *, own: bool = False) -> PayoutTarget:
        """Make an invoice, and ask the node as a front does whether it is its own. Its answer may be lost.

        At a node that keeps no owners, every third invoice is one that another client may have shown already, unless it
        must be the caller's `own`.
        """
        shared = self.node.shared
        if (
            shared is not None
            and not own
            and self.node.wallet_count % 3 == 0
            and shared.amount_msat <= Msat.from_sats(sats)
        ):
            self.node.shared = None
            return shared
        target = self.node.wallet_invoice(sats)
        if not self.node.keeps_owners and not own:
            self.node.shared = target
        internal = self.node.is_own(target.payment_hash) and not self.world.strikes(Fault.NODE_LOSS, 0.2)
        return replace(target, internal=internal)

    async def pay(self, chance: Chance, invoice: Invoice) -> None:
        """Pay from a wallet: soon, in the last moment, too much, or never."""
        amount_msat = invoice.amount_sats * 1_000
        delay_s = chance.uniform(0.01, 2)
        if self.world.strikes(Fault.WALLETS, 0.15):
            return
        if self.world.strikes(Fault.WALLETS, 0.15):
            delay_s = (invoice.expires_at_ms - self.world.now_ms()) / 1_000 - chance.uniform(0, 1.5)
        if self.world.strikes(Fault.WALLETS, 0.2):
            amount_msat += chance.randint(1, 20_000)
        await self.world.pause(max(0.0, delay_s))
        self.node.pay(invoice.payment_hash, amount_msat)
