"""The clients of a run: they open, pay, ask, top up, close and come back with the same key when something broke."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from msgspec.structs import replace

from ...actors.domain.behaviour import Attempt, Once
from ...actors.domain.caveats import Grant
from ...actors.domain.errors import Code, RefusedError
from ...actors.domain.invoices import Invoice
from ...actors.domain.money import Msat
from ...actors.domain.payouts import PayoutTarget
from ...actors.domain.relays import PromptRate, RelayBody
from ...actors.domain.session_api import (
    Ask,
    CloseSession,
    GetLedger,
    GetSession,
    LedgerPage,
    OpenSession,
    Relay,
    Relayed,
    RequestAnswer,
    SessionCreated,
    SessionView,
    TopUp,
    TopUpInvoice,
)
from ...actors.domain.webhooks import Webhook
from ...actors.messages import WireCommand, WireReply
from .auditor import Auditor
from .cluster import FrontProcess
from .loop import Chance, DiedError
from .model import labelled
from .node import SimulatedNode
from .terms import BTC
from .world import Fault, World

if TYPE_CHECKING:
    from .job_client import JobClient

CLIENT: Final = "client"
_GRANT: Final = Grant(generation=1)
NOT_CHARGED: Final = "nothing was charged"
_TRIES: Final = 6
_ANSWER_WITHIN_S: Final = 60.0


def webhook_of(chance: Chance, actor_id: str, low_sats: int = 0) -> Webhook | None:
    """Where a client wants to be told, if it does."""
    return Webhook(f"https://{actor_id}.example/", Msat.from_sats(low_sats)) if chance.happens(0.4) else None


def _named(command: Ask | Relay, name: str, other: str) -> Ask | Relay:
    """The same command, which tells the model that it is another operation."""
    label, instead = f"/{name}]", f"/{other}]"
    if isinstance(command, Ask):
        return replace(command, request=command.request.replace(label, instead))
    data = command.body.data.replace(label.encode(), instead.encode())
    return replace(command, body=replace(command.body, data=data))


class LeftError(Exception):
    """The client gave up: what became of its command it does not know."""


@dataclass(eq=False)
class Market:
    """Where clients meet the server. `front` is whichever front runs just now."""

    world: World
    node: SimulatedNode
    auditor: Auditor
    front: Callable[[], FrontProcess]
    sessions: list[SessionClient] = field(default_factory=list)
    jobs: list[JobClient] = field(default_factory=list)

    async def call(self, chance: Chance, actor_id: str, command: WireCommand, name: str = "") -> WireReply:
        """The answer, whatever it takes. Raises `RefusedError`, `LeftError`."""
        keyed = name == "" or name.startswith("k")
        for _ in range(_TRIES if keyed else 1):
            try:
                async with asyncio.timeout(_ANSWER_WITHIN_S):
                    reply = await self.front().call(actor_id, command)
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

    async def next_of(
        self, front: FrontProcess, reading: asyncio.Task[None], said: asyncio.Queue[WireReply]
    ) -> WireReply:
        """The next part of a stream. Raises what the stream ends with, and `LeftError` when its front dies."""
        while said.empty():
            if reading.done():
                reading.result()
                raise LeftError
            if not front.process.alive:
                raise LeftError
            waiting = asyncio.ensure_future(said.get())
            await asyncio.wait([waiting, reading], timeout=1, return_when=asyncio.FIRST_COMPLETED)
            if waiting.done():
                return waiting.result()
            waiting.cancel()
        return said.get_nowait()

    async def pay(self, chance: Chance, invoice: Invoice) -> None:
        """A wallet pays, soon, in the last moment, too much, or never."""
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


@dataclass(eq=False)
class SessionClient:
    """Whoever holds one session."""

    market: Market
    session_id: str
    targets: list[PayoutTarget] = field(default_factory=list)
    count: int = 0
    opened: bool = False

    async def open(self, chance: Chance) -> None:
        """Opens the session and pays its deposit."""
        sats = chance.choice([100, 100, 300, 1_000])
        webhook = webhook_of(chance, self.session_id, sats - chance.choice([1, 3, 10]))
        command = OpenSession(sats, CLIENT, webhook)
        created = await self.market.call(chance, self.session_id, command)
        assert isinstance(created, SessionCreated)
        self.opened = True
        await self.market.pay(chance, created.deposit_invoice)

    async def ask(self, chance: Chance) -> None:
        """Has something answered, as a whole or as a stream."""
        name, keyed = self._name(chance)
        text = chance.choice(["hello", "hello", "hello", "reject me"])
        stream = chance.happens(0.4)
        command = self._command(chance, name, keyed, text, stream)
        # Also a whole answer can be left while it is waited for, and some libraries then ask for it again.
        if not (stream or keyed) and chance.happens(0.3):
            await self._again_and_again(chance, command, name)
        elif stream or (not keyed and chance.happens(0.3)):
            await self._streamed(chance, command, name)
        else:
            await self._twice(chance, command, name, keyed)

    def _command(self, chance: Chance, name: str, keyed: bool, text: str, stream: bool) -> Ask | Relay:
        """A request, or a call in the provider's own protocol."""
        if chance.happens(0.3):
            return self._relay(chance, name, keyed, text, stream)
        return Ask(
            request_id=f"req_{self.session_id}_{self.count}",
            request=labelled(f"{self.session_id}/{name}", text),
            model="sonnet",
            max_tokens=chance.choice([None, 100, 300]),
            stream=stream,
            once=Once(name, "digest", keyed),
            grant=_GRANT,
            btc_price=BTC,
        )

    def _relay(self, chance: Chance, name: str, keyed: bool, text: str, stream: bool) -> Relay:
        max_tokens = chance.choice([50, 100, 300, 20_000])
        head = b'{"max_tokens":'
        data = b'%b%d,"text":"%b"}' % (head, max_tokens, labelled(f"{self.session_id}/{name}", text).encode())
        return Relay(
            request_id=f"req_{self.session_id}_{self.count}",
            model="sonnet",
            body=RelayBody(data, max_tokens, len(head), len(head) + len(str(max_tokens))),
            headers={},
            beta=False,
            stream=stream,
            prompt_tokens_max=chance.choice([150, 200]),
            prompt_rate=PromptRate.INPUT,
            least_tokens=chance.choice([0, 80]),
            once=Once(name, "digest", keyed),
            grant=_GRANT,
            btc_price=BTC,
        )

    async def _twice(self, chance: Chance, command: Ask | Relay, name: str, keyed: bool) -> None:
        """Some send the same again although it was answered, or while it is under way."""
        call = self.market.call(chance, self.session_id, command, name)
        if keyed and chance.happens(0.3):
            await asyncio.gather(call, self.market.call(chance, self.session_id, command, name))
        else:
            await call
        if keyed and chance.happens(0.4):
            await self.market.world.pause(chance.uniform(0, 5))
            await self.market.call(chance, self.session_id, command, name)

    async def _again_and_again(self, chance: Chance, command: Ask | Relay, name: str) -> None:
        """Gives up soon and sends the same again, as the SDKs do: each time as an operation of its own."""
        patience_s = chance.choice([0.3, 1, 5])
        for number in range(3):
            again = f"{name}.{number}"
            sent = _named(command, name, again)
            once = Once(again, "", keyed=False)
            sent = replace(sent, once=once, request_id=f"req_{self.session_id}_{again}", attempt=Attempt(name, number))
            if await self._streamed(chance, sent, again, patience_s):
                return
            await self.market.world.pause(chance.uniform(0.375, 0.5) * 2**number)

    async def _streamed(
        self, chance: Chance, command: Ask | Relay, name: str, patience_s: float = _ANSWER_WITHIN_S
    ) -> bool:
        """Reads an answer to its end, or leaves it in the middle; says whether it got one."""
        market = self.market
        said: asyncio.Queue[WireReply] = asyncio.Queue()
        front = market.front()
        reading = front.stream(self.session_id, command, said)
        leaves_after_s = chance.uniform(0, 2) if market.world.strikes(Fault.LEAVING, 0.3) else patience_s
        got: list[str] = []
        try:
            async with asyncio.timeout(leaves_after_s):
                while True:
                    reply = await market.next_of(front, reading, said)
                    if isinstance(reply, RequestAnswer):
                        market.auditor.told(self.session_id, reply, name)
                        market.auditor.streamed(self.session_id, reply, "".join(got))
                        return True
                    if isinstance(reply, Relayed):
                        market.auditor.told(self.session_id, reply, name)
                        return True
                    got.append(getattr(reply, "text", ""))
        except TimeoutError:
            market.world.tell(f"  a client leaves the stream {name}")
        except RefusedError as error:
            market.world.tell(f"  {self.session_id} refuses the stream {name}: {error.refusal.code}")
            if NOT_CHARGED in error.refusal.message:
                market.auditor.refused(self.session_id, name)
        finally:
            reading.cancel()
        return False

    async def top_up(self, chance: Chance) -> None:
        """Has an invoice made, and pays it."""
        name, keyed = self._name(chance)
        command = TopUp(chance.choice([100, 250]), Once(name, "digest", keyed), _GRANT)
        reply = await self.market.call(chance, self.session_id, command, name)
        assert isinstance(reply, TopUpInvoice)
        await self.market.pay(chance, reply.invoice)

    async def look(self, chance: Chance) -> None:
        """Looks at the session, or at its ledger."""
        if chance.happens(0.6):
            await self.market.call(chance, self.session_id, GetSession(_GRANT))
            return
        page = await self.market.call(chance, self.session_id, GetLedger(0, 100, _GRANT))
        assert isinstance(page, LedgerPage)
        self.market.auditor.ledger(self.session_id, page)

    async def close(self, chance: Chance) -> None:
        """Closes it, without a refund, with one, or again with another invoice."""
        target = await self._target(chance)
        name, keyed = self._name(chance)
        command = CloseSession(target, Once(name, "digest" if target is None else target.payment_hash, keyed), _GRANT)
        await self.market.call(chance, self.session_id, command, name)

    async def _target(self, chance: Chance) -> PayoutTarget | None:
        if chance.happens(0.2):
            return None
        if self.targets and chance.happens(0.3):
            return chance.choice(self.targets)
        view = await self.market.call(chance, self.session_id, GetSession(_GRANT))
        assert isinstance(view, SessionView)
        left = (view.balance_msat.value + view.refund.owed_msat.value) // 1_000
        sats = max(1, min(left - 2 - left // 90, chance.randint(1, max(1, left))))
        self.targets.append(self.market.node.wallet_invoice(sats))
        return self.targets[-1]

    def _name(self, chance: Chance) -> tuple[str, bool]:
        self.count += 1
        keyed = chance.happens(0.6)
        return f"{'k' if keyed else 'req_'}{self.count}", keyed
