"""Clients of sessions: they open, pay, ask, top up, look and close; some ask for one thing together."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any, Final

from msgspec.structs import replace

from ....actors.domain.behaviour import Attempt, Once, Reply
from ....actors.domain.credentials.caveats import Grant
from ....actors.domain.errors import RefusedError
from ....actors.domain.llm.relays import PromptRate, RelayBody, RelayBytes
from ....actors.domain.payments.invoices import Invoice
from ....actors.domain.payments.payouts import PayoutTarget
from ....actors.domain.session.messages import (
    Ask,
    CloseSession,
    GetLedger,
    GetSession,
    NameRefundDestination,
    OpenSession,
    Relay,
    Relayed,
    RequestAnswer,
    TopUp,
)
from ..loop import Chance
from ..model import labelled
from ..settings import BTC
from ..world import Fault
from .common import CLIENT, NOT_CHARGED, LeftError, Market, destination_of, webhook_of
from .reading import Reading

_GRANT: Final = Grant(generation=1)
_STAYS_S: Final = 1_000.0
_ATTEMPTS: Final = 3
_NAMED_MAX: Final = 3


def _named(command: Ask | Relay, name: str, other: str) -> Ask | Relay:
    """Return the command under another name, so that the model takes it for another operation."""
    label, instead = f"/{name}]", f"/{other}]"
    if isinstance(command, Ask):
        return replace(command, request=command.request.replace(label, instead))
    data = command.body.data.replace(label.encode(), instead.encode())
    return replace(command, body=replace(command.body, data=data))


@dataclass(eq=False)
class SessionClient:
    """Client that holds one session."""

    market: Market
    session_id: str
    targets: list[PayoutTarget] = field(default_factory=list)
    count: int = 0
    named: int = 0
    opened: bool = False
    closed: bool = False

    async def open(self, chance: Chance) -> None:
        """Open the session and pay its deposit."""
        sats = chance.choice([100, 100, 300, 1_000])
        webhook = webhook_of(chance, self.session_id, sats - chance.choice([1, 3, 10]))
        command = OpenSession(sats, CLIENT, webhook, refund_to=self._destination())
        created = await self.market.call(chance, self.session_id, command)
        self.opened = True
        await self.market.pay(chance, created.deposit_invoice)

    async def ask(self, chance: Chance) -> None:
        """Have something answered, as a whole or as a stream; by one caller, or by some under one key."""
        name, keyed = self._name(chance)
        text = chance.choice(["hello", "hello", "hello", "reject me"])
        stream = chance.happens(0.4)
        command = self.command(chance, name, keyed, text, stream)
        if keyed and chance.happens(0.3):
            await self._together(chance, command, name)
        elif not (stream or keyed) and chance.happens(0.3):
            await self._again_and_again(chance, command, name)
        elif stream or (not keyed and chance.happens(0.3)):
            # A client can also leave while it waits for a whole answer.
            await self._streamed(command, name, self._patience_s(chance))
        else:
            await self._call(chance, command, name)
        if keyed and chance.happens(0.3):
            await self.market.world.pause(chance.uniform(0, 5))
            await self._call(chance, command, name)

    async def _together(self, chance: Chance, command: Ask | Relay, name: str) -> None:
        """Ask for it two or three times at once. All callers but one may leave before the end, one by one."""

        async def ask(starts_after_s: float, stays_s: float) -> None:
            await self.market.world.pause(starts_after_s)
            if command.stream:
                await self._streamed(command, name, stays_s)
                return
            try:
                async with asyncio.timeout(stays_s):
                    await self._call(chance, command, name)
            except TimeoutError:
                self.market.world.tell(f"  a caller of {name} leaves")

        stays = [_STAYS_S, *(chance.uniform(0.01, 2) for _ in range(chance.randint(1, 2)))]
        chance.shuffle(stays)
        callers = [ask(chance.choice([0.0, chance.uniform(0, 0.5)]), stays_s) for stays_s in stays]
        for came in await asyncio.gather(*callers, return_exceptions=True):
            if isinstance(came, BaseException) and not isinstance(came, RefusedError | LeftError):
                raise came

    async def _again_and_again(self, chance: Chance, command: Ask | Relay, name: str) -> None:
        """Give up soon and send the same again, as the SDKs do: each time as an operation of its own."""
        patience_s = chance.choice([0.3, 1, 5])
        for number in range(_ATTEMPTS):
            again = f"{name}.{number}"
            sent = _named(command, name, again)
            once = Once(again, "", keyed=False)
            sent = replace(sent, once=once, request_id=f"req_{self.session_id}_{again}", attempt=Attempt(name, number))
            if await self._streamed(sent, again, self._patience_s(chance, patience_s), last=number == _ATTEMPTS - 1):
                return
            await self.market.world.pause(chance.uniform(0.375, 0.5) * 2**number)

    def _patience_s(self, chance: Chance, otherwise_s: float = _STAYS_S) -> float:
        return chance.uniform(0, 2) if self.market.world.strikes(Fault.LEAVING, 0.3) else otherwise_s

    async def _call(self, chance: Chance, command: Ask | Relay, name: str) -> None:
        await self.market.call(chance, self.session_id, command, name, self._label(name))

    def _label(self, name: str) -> str:
        return f"{self.session_id}/{name}"

    def command(
        self, chance: Chance, name: str, keyed: bool, text: str, stream: bool, *, relays: bool | None = None
    ) -> Ask | Relay:
        """Return a request, or, with `relays` or by chance, a call in the provider's own protocol."""
        by_chance = chance.happens(0.4)
        if by_chance if relays is None else relays:
            return self._relay(chance, name, keyed, text, stream)
        return Ask(
            request_id=f"req_{self.session_id}_{self.count}",
            request=labelled(self._label(name), text),
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
        data = b'%b%d,"text":"%b"}' % (head, max_tokens, labelled(self._label(name), text).encode())
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

    async def _streamed(self, command: Ask | Relay, name: str, stays_s: float, *, last: bool = True) -> bool:
        """Read an answer to its end, or leave it in the middle; return whether one came.

        `last`: no further attempt follows, of whose operation this attempt could become a part.
        """
        market, label = self.market, self._label(name)
        reading = Reading(market, self.session_id, command, lambda: market.waiting.work.last_s(label))
        try:
            async with asyncio.timeout(stays_s):
                await self._read(reading, name)
                return True
        except TimeoutError:
            market.world.tell(f"  a client leaves the stream {name}")
        except RefusedError as error:
            market.world.tell(f"  {self.session_id} refuses the stream {name}: {error.refusal.code}")
            # With a key, the client may come again, and others may have come with it.
            if last and not command.once.keyed and NOT_CHARGED in error.refusal.message:
                market.auditor.refused(self.session_id, name)
        finally:
            reading.leave()
        return False

    async def _read(self, reading: Reading[Reply, Any], name: str) -> None:
        auditor, text, data = self.market.auditor, "", b""
        while True:
            reply = await reading.next()
            if isinstance(reply, RequestAnswer):
                auditor.told(self.session_id, reply, name)
                auditor.streamed(self.session_id, reply, text)
                return
            if isinstance(reply, Relayed):
                auditor.told(self.session_id, reply, name)
                auditor.relayed(self.session_id, reply, data)
                return
            text += getattr(reply, "text", "")
            data += reply.data if isinstance(reply, RelayBytes) else b""

    async def top_up(self, chance: Chance) -> None:
        """Have an invoice made, and pay it."""
        await self.market.pay(chance, await self._top_up_invoice(chance))

    async def _top_up_invoice(self, chance: Chance) -> Invoice:
        name, keyed = self._name(chance)
        command = TopUp(chance.choice([100, 250]), Once(name, "digest", keyed), _GRANT)
        reply = await self.market.call(chance, self.session_id, command, name)
        return reply.invoice

    def _destination(self) -> str | None:
        """Return a destination of the client's, by a chance of its own: seeds without any go on as they did."""
        self.named += 1
        chance = Chance(f"destination {self.session_id} {self.named}")
        return destination_of(chance, self.session_id, self.named) if self.market.destinations else None

    async def _name_destination(self, within_s: float = 0.0) -> None:
        """Perhaps name another destination."""
        destination = self._destination() if self.named < _NAMED_MAX else None
        if destination is not None:
            await self.market.world.pause(Chance(f"pause {destination}").uniform(0, within_s))
            await self.market.call(
                self.market.world.chance, self.session_id, NameRefundDestination(destination, _GRANT)
            )

    async def look(self, chance: Chance) -> None:
        """Look at the session, or at its ledger."""
        if chance.happens(0.6):
            await self.market.call(chance, self.session_id, GetSession(_GRANT))
            return
        page = await self.market.call(chance, self.session_id, GetLedger(0, 100, _GRANT))
        self.market.auditor.ledger(self.session_id, page)

    async def close(self, chance: Chance) -> None:
        """Close the session without a refund, with one, or again with another invoice.

        Some clients had still wanted to top it up.
        """
        if not self.closed and chance.happens(0.3):
            await self._top_up_invoice(chance)
        await self._name_destination()
        await self._close(chance)
        # The answer of the destination before may be on its way.
        await self._name_destination(within_s=1.0)
        if chance.happens(0.4):
            await self.market.world.pause(chance.uniform(0.5, 5))
            await self._close(chance)

    async def _close(self, chance: Chance) -> None:
        self.closed = True
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
        left = (view.balance_msat.value + view.refund.owed_msat.value) // 1_000
        most = left if self.market.node.next_is_own else view.refund.payable_sats or left - 2 - left // 90
        sats = max(1, most if chance.happens(0.5) else min(most, chance.randint(1, max(1, left))))
        self.targets.append(self.market.target(sats))
        return self.targets[-1]

    def _name(self, chance: Chance) -> tuple[str, bool]:
        self.count += 1
        keyed = chance.happens(0.6)
        return f"{'k' if keyed else 'req_'}{self.count}", keyed
