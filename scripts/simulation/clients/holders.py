"""Holders of narrowed credentials, whose only aim is more than their caveats allow.

They derive credentials from the session's own and from each other's, with caveats that contradict, loosen or repeat
what stands there. They use them side by side: to spend, to ask for what another one bought, to look, top up and close.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from msgspec.structs import replace

from ....actors.domain import idempotency_keys
from ....actors.domain.behaviour import Command, Once
from ....actors.domain.credentials import macaroon
from ....actors.domain.credentials.caveats import CaveatError, Grant
from ....actors.domain.credentials.macaroon import MacaroonId
from ....actors.domain.errors import Code, RefusedError
from ....actors.domain.session.messages import (
    Ask,
    CloseSession,
    CountTokens,
    GetLedger,
    GetSession,
    NameRefundDestination,
    Relay,
    Relayed,
    RequestAnswer,
    TopUp,
)
from ....actors.messages import ReplyT
from ..books.holders import Asking, Caveat, Credential, HolderBook, least_of_ask, least_of_relay
from ..books.sessions import must
from ..loop import Chance
from ..world import Fault
from .common import NOT_CHARGED, LeftError
from .reading import Reading
from .sessions import SessionClient

_KEY: Final = bytes(range(32))
_TRIES: Final = 4
_STAYS_S: Final = 1_000.0
_NEWEST: Final = 8
_CREDENTIALS_MAX: Final = 30
_UNKNOWN: Final = ("seats = 2", "max_msat 5", "max_msat = -5", "actions = all", "actions = ", "Name = a")
_ALL: Final = ("request", "read", "topup", "close", "llm")


def _caveat(chance: Chance, now_s: int) -> str:
    """Return a caveat that a holder appends."""
    match chance.choices(["limit", "at once", "end", "actions", "name", "unknown"], [8, 2, 2, 4, 1, 0.3])[0]:
        case "limit":
            return f"max_msat = {chance.choice([0, 7_000, 8_000, 13_000, 13_000, 20_000, 60_000, 10**15])}"
        case "at once":
            return f"max_msat_per_request={chance.choice([0, 3_000, 7_000, 9_000, 10**12])}"
        case "end":
            return f"expires_at = {now_s + chance.choice([-3, 2, 20, 200, 10_000])}"
        case "name":
            return f"name = {chance.choice('abc')}"
        case "unknown":
            return chance.choice(_UNKNOWN)
    few = chance.sample(_ALL, chance.randint(1, 3))
    return f"actions = {', '.join(few if chance.happens(0.3) else ['request', 'llm', *few])}"


def _loosened(chance: Chance, now_s: int) -> list[str]:
    """Return caveats of which the first is narrow and the last as wide as can be, or something else than before."""
    match chance.choice(["limit", "at once", "end", "actions"]):
        case "limit":
            return [f"max_msat = {chance.choice([0, 7_000, 8_000])}", f"max_msat = {10**15}"]
        case "at once":
            return [
                f"max_msat_per_request = {chance.choice([1_000, 4_000, 7_000])}",
                f"max_msat_per_request = {10**12}",
            ]
        case "end":
            return [f"expires_at = {now_s + 1}", f"expires_at = {now_s + 10_000}"]
    return [f"actions = {action}" for action in chance.sample(_ALL, 3)]


@dataclass(eq=False)
class Holders:
    """Holders of one session's credentials. `client`: the session's owner, with the first credential."""

    client: SessionClient
    credentials: list[Credential] = field(default_factory=list)
    _grants: dict[str, Grant] = field(default_factory=dict)
    _bought: list[tuple[Credential, str]] = field(default_factory=list)
    _names: defaultdict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    _digests: defaultdict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    _relays: dict[str, bool] = field(default_factory=dict)
    _count: int = 0

    def __post_init__(self) -> None:
        session_id = self.client.session_id
        made_for = macaroon.session_id(hashlib.sha256(session_id.encode()).digest()[: macaroon.SESSION_BYTES])
        root = macaroon.mint(_KEY, MacaroonId("ab" * 32, made_for, generation=1))
        self._grants[root] = macaroon.verify(_KEY, root)[1]
        self.credentials.append(Credential(session_id, root))
        self.book.joins(session_id, lambda: self.client.closed)

    @property
    def book(self) -> HolderBook:
        """Book that the holders are checked against."""
        return self.client.market.auditor.holders

    async def act(self, chance: Chance) -> None:
        """Narrow some credentials, and try something."""
        for _ in range(chance.choice([0, 1, 2, 2])):
            self._check(self._derive, chance)
        some = self._some(chance)
        match chance.choices(["spend", "again", "look", "top up", "close"], [10, 5, 2, 1, 1])[0]:
            case "spend":
                await asyncio.gather(*(self._buy(chance, by) for by in some))
            case "again" if self._bought:
                await self._again(chance, some)
            case "look":
                await asyncio.gather(*(self._look(chance, by) for by in some))
            case "top up":
                await self._top_up(chance, some[0])
            case "close":
                await self._close(chance, some[0])
        # By a chance of its own: seeds without destinations go on as they did.
        if self.client.market.destinations and Chance(f"naming {self._next(self.client.session_id)}").happens(0.2):
            await self._name_destination(chance, some[0])

    def _some(self, chance: Chance) -> list[Credential]:
        """Return a few rather new credentials, many of them siblings."""
        return [chance.choice(self.credentials[-_NEWEST:]) for _ in range(chance.randint(1, 4))]

    def _derive(self, chance: Chance) -> None:
        if len(self.credentials) == _CREDENTIALS_MAX:
            return
        credential = chance.choice(self.credentials[-_NEWEST:])
        if chance.happens(0.3):
            credential = self.credentials[0]
        now_s = self.client.market.world.now_ms() // 1_000
        texts = [_caveat(chance, now_s) for _ in range(chance.choice([1, 1, 2, 3]))]
        for text in _loosened(chance, now_s) if chance.happens(0.25) else texts:
            token = macaroon.attenuate(credential.token, [text])
            name, _, value = text.partition("=")
            caveat = Caveat(token, name.strip(), value.strip())
            credential = Credential(credential.session_id, token, (*credential.caveats, caveat))
        try:
            grant = macaroon.verify(_KEY, credential.token)[1]
        except CaveatError:
            must(not credential.sound, f"a credential is refused for caveats that are known: {credential.caveats}")
            return
        must(credential.sound, f"a credential is taken with caveats that are not known: {credential.caveats}")
        self._grants[credential.token] = grant
        self.credentials.append(credential)

    # Buying

    async def _buy(self, chance: Chance, by: Credential) -> None:
        keyed = chance.happens(0.6)
        base = self._next("kh" if keyed else f"req_{by.session_id}_h")
        if keyed:
            self._bought.append((by, base))
        asks = self._ask(chance, by, base, "x", keyed=keyed)
        if keyed and chance.happens(0.3):
            await asyncio.gather(asks, self._ask(chance, chance.choice(self.credentials), base, "x", keyed=True))
        else:
            await asks

    async def _again(self, chance: Chance, some: list[Credential]) -> None:
        """Ask for what another holder bought, or is buying.

        Only credentials that the buyer's was derived from may have it.
        """
        buyer, base = chance.choice(self._bought[-_NEWEST:])
        above = [other for other in self.credentials if other.is_above(buyer)]
        askers = [*some, chance.choice(above)]
        digests = ["x", "x", "x", "y"]
        await asyncio.gather(*(self._ask(chance, by, base, chance.choice(digests), keyed=True) for by in askers))

    async def _ask(self, chance: Chance, by: Credential, base: str, digest: str, *, keyed: bool) -> None:
        grant, request_id = self._grants[by.token], self._next(f"req_{by.session_id}_h")
        once = idempotency_keys.operation(grant, base, digest) if keyed else Once(request_id, "", keyed=False)
        self._names[base].add(once.name)
        text = chance.choice(["hello", "hello", "reject me"])
        # A key belongs to a path: the same key at the other kind's path names another operation.
        kind = self._relays.get(base)
        made = self.client.command(chance, once.name, keyed, text, chance.happens(0.3), relays=kind)
        self._relays[base] = isinstance(made, Relay)
        command = replace(made, request_id=request_id, once=once, grant=grant)
        self.book.asks(request_id, by, "llm" if isinstance(command, Relay) else "request")
        digests = self._digests[f"{by.token} {base}"]
        digests.add(digest)
        world = self.client.market.world
        stays_s = chance.uniform(0, 2) if world.strikes(Fault.LEAVING, 0.2) else _STAYS_S
        for _ in range(_TRIES if keyed else 1):
            asking = _asking(by, command, world.now_ms())
            try:
                async with asyncio.timeout(stays_s):
                    reply = await self._answer(command, self._names[base])
            except TimeoutError:
                world.tell(f"  a holder leaves {once.name}")
                return
            except LeftError:
                await world.pause(chance.uniform(0.1, 1))
                continue
            except RefusedError as error:
                self._refused(asking, error, once.name, digests)
                if error.refusal.code is not Code.UNAVAILABLE:
                    return
                if not keyed and NOT_CHARGED in error.refusal.message:
                    self.client.market.auditor.refused(by.session_id, once.name)
                await world.pause(chance.uniform(0.2, 3))
                continue
            world.tell(f"  {by.session_id} answers a holder's {once.name}: {reply.request_id}")
            self.client.market.auditor.told(by.session_id, reply, reply.request_id)
            self._check(self.book.told, reply.request_id, by)
            return

    async def _answer(self, command: Ask | Relay, names: set[str]) -> RequestAnswer | Relayed:
        """Return the final answer, which another holder may have begun under its name."""
        market, session_id = self.client.market, self.client.session_id
        work = market.waiting.work
        reading = Reading(
            market, session_id, command, lambda: max(work.last_s(f"{session_id}/{name}") for name in sorted(names))
        )
        try:
            while True:
                reply = await reading.next()
                if isinstance(reply, RequestAnswer | Relayed):
                    return reply
        finally:
            reading.leave()

    # All else

    async def _look(self, chance: Chance, by: Credential) -> None:
        grant = self._grants[by.token]
        command: Command = GetSession(grant)
        actions: tuple[str, ...] = ("read",)
        match chance.choice(["session", "ledger", "count"]):
            case "ledger":
                command = GetLedger(0, 100, grant)
            case "count":
                command, actions = CountTokens(self._next("req_count"), b"{}", {}, "m", False, grant), ("llm", "read")
        asking = Asking(by, actions, self.client.market.world.now_ms())
        if await self._call(chance, asking, command, "") is not None:
            self._check(self.book.granted, asking)

    async def _top_up(self, chance: Chance, by: Credential) -> None:
        grant = self._grants[by.token]
        once = idempotency_keys.operation(grant, self._next("kt"), "x")
        self.book.tops_up(once.name, by)
        asking = Asking(by, ("topup",), self.client.market.world.now_ms())
        reply = await self._call(chance, asking, TopUp(chance.choice([1, 100]), once, grant), once.name)
        if reply is not None:
            await self.client.market.pay(chance, reply.invoice)

    async def _close(self, chance: Chance, by: Credential) -> None:
        market, grant = self.client.market, self._grants[by.token]
        sats = chance.choice([0, 1, 5, 40, 90])
        # The books know by its invoice whose credential a payout is for.
        target = market.target(sats, own=True) if sats else None
        self.book.closes(by, None if target is None else target.payment_hash)
        once = idempotency_keys.operation(grant, self._next("kc"), "x")
        reserve = 0 if target is None or target.internal else max(2_000, sats * 10)
        pays = None if target is None else sats * 1_000 + reserve
        asking = Asking(by, ("close",), market.world.now_ms(), pays_msat=pays)
        if await self._call(chance, asking, CloseSession(target, once, grant), once.name) is not None:
            self.client.closed = True

    async def _name_destination(self, chance: Chance, by: Credential) -> None:
        """Have the session's rest paid to the holder's own address."""
        destination = f"{self._next('holder')}.{by.session_id}@wallet.example"
        self.book.names_destination(by, destination)
        asking = Asking(by, ("close",), self.client.market.world.now_ms(), redirects=True)
        await self._call(chance, asking, NameRefundDestination(destination, self._grants[by.token]), "")

    async def _call(self, chance: Chance, asking: Asking, command: Command[ReplyT], name: str) -> ReplyT | None:
        try:
            return await self.client.market.call(chance, asking.by.session_id, command, name)
        except RefusedError as error:
            self._refused(asking, error, name, ())
        except LeftError:
            pass
        return None

    def _refused(self, asking: Asking, error: RefusedError, name: str, digests: set[str] | tuple[()]) -> None:
        world = self.client.market.world
        world.tell(f"  {asking.by.session_id} refuses a holder's {name}: {error.refusal.code}")
        self._check(self.book.refused, asking, error.refusal.code.value, digests)

    def _next(self, prefix: str) -> str:
        self._count += 1
        return f"{prefix}{self._count}"

    def _check(self, check: Callable[..., None], *arguments: object) -> None:
        self.client.market.auditor.of_holders(self.client.session_id, lambda: check(*arguments))


def _asking(by: Credential, command: Ask | Relay, now_ms: int) -> Asking:
    if isinstance(command, Ask):
        return Asking(by, ("request",), now_ms, least_of_ask(command.request, command.max_tokens))
    body = command.body
    least = least_of_relay(command.prompt_tokens_max, body.max_tokens, command.least_tokens)
    return Asking(by, ("llm",), now_ms, least)
