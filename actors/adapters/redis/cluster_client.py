"""Client for a Redis or Valkey Cluster that sends each command to the node that has its keys, and none twice.

The library's own cluster client does not do for money. Its pipelines fail as a whole when one node does. They never
look for the successor of a dead node unless they may also repeat commands that the dead one may have carried out. Its
ASKING may go over another connection than the command. So its client for a single server is used here, one for each
node.

A command goes out again only upon an answer by which a node says that it did *not* carry it out: MOVED, ASK and
NOSCRIPT. All other failures are errors to the caller: a lost answer because it may have been carried out, TRYAGAIN
because waiting here would hold up what goes out beside it.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from redis.asyncio import Redis
from redis.asyncio.client import Pipeline
from redis.commands.core import AsyncScript
from redis.crc import REDIS_CLUSTER_HASH_SLOTS, key_slot
from redis.exceptions import (
    AskError,
    ClusterDownError,
    MovedError,
    NoScriptError,
    ReadOnlyError,
    RedisError,
)
from redis.exceptions import ConnectionError as NotConnectedError

from ....config.store_url import Address

Command = tuple[tuple[Any, ...], Mapping[str, Any]]
"""Command as words and the library's options, as its pipelines keep them."""

_HOPS_MAX: Final = 5


class ClusterRedis(Redis):
    """`Redis` for commands with keys of one slot each; pipelines may mix slots, and are not transactions."""

    def __init__(self, seeds: Sequence[Address], connect_node: Callable[[Address], Redis]) -> None:
        self._seeds = tuple(seeds)
        self._connect_node = connect_node
        self._nodes: dict[Address, Redis] = {}
        self._owners: list[Address | None] = []
        self._stale = True
        self._looking = asyncio.Lock()
        self._scripts: dict[str, str] = {}
        super().__init__(connection_pool=self._node(self._seeds[0]).connection_pool)

    def shard_of(self, key: str) -> Address | None:
        """Return the node that has a key, if known: commands for different nodes need not wait for each other."""
        return self._owners[_slot_of_key(key)] if self._owners else None

    async def primaries(self) -> Mapping[Address, Redis]:
        """Return the nodes that own slots. Raises `RedisError` when no node tells."""
        await self._know_owners()
        return {address: self._node(address) for address in dict.fromkeys(self._owners) if address is not None}

    def register_script(self, script: Any) -> Any:
        """Register a script, which is sent to any node that does not know it."""
        made = AsyncScript(self, script)
        self._scripts[made.sha] = script
        return made

    async def execute_command(self, *args: Any, **options: Any) -> Any:
        """Send one command to the node of its keys. Raises `RedisError`, `OSError`."""
        (answer,) = await self.run([(args, options)])
        if isinstance(answer, Exception):
            raise answer
        return answer

    def pipeline(self, transaction: bool = True, shard_hint: str | None = None) -> Pipeline:
        """Return a pipeline, which sends the commands of each node in one round trip; never a transaction."""
        if transaction:
            raise ValueError("a pipeline over several nodes can't be a transaction")
        return _ClusterPipeline(self)

    def pubsub(self, **options: Any) -> Any:
        """Return a subscription at any node, which gets what is published on any other."""
        known = [address for address in set(self._owners) if address is not None]
        return self._node(secrets.choice(known or self._seeds)).pubsub(**options)

    async def aclose(self, close_connection_pool: bool | None = None) -> None:
        """End the connections to all nodes."""
        nodes, self._nodes, self._owners, self._stale = list(self._nodes.values()), {}, [], True
        await asyncio.gather(*(node.aclose() for node in nodes))

    async def run(self, commands: Sequence[Command]) -> list[Any]:
        """Return the answers in the order of the commands; an error stands in the place of its command's answer.

        Raises `RedisError` when nothing was sent, because no node tells who has which keys.
        """
        await self._know_owners()
        answers: list[Any] = [None] * len(commands)
        targets = {}
        for i, (args, _) in enumerate(commands):
            if (owner := self._owners[_slot(args)]) is None:
                answers[i], self._stale = ClusterDownError("no node of the cluster has the slot of this key"), True
            else:
                targets[i] = (owner, False)
        for _ in range(_HOPS_MAX):
            groups: dict[tuple[Address, bool], list[int]] = {}
            for i, target in targets.items():
                groups.setdefault(target, []).append(i)
            replies = await asyncio.gather(
                *(self._ask(*target, [commands[i] for i in members]) for target, members in groups.items())
            )
            elsewhere = {}
            for (target, members), group in zip(groups.items(), replies, strict=True):
                for i, answer in zip(members, group, strict=True):
                    answers[i] = answer
                    if (redirected := self._redirected(answer, target)) is not None:
                        elsewhere[i] = redirected
            if not elsewhere:
                break
            targets = elsewhere
        return answers

    def _redirected(self, answer: Any, asked: tuple[Address, bool]) -> tuple[Address, bool] | None:
        """Return the node for a command that was not carried out; None for one that was, or may have been."""
        if isinstance(answer, AskError):
            # An answer without a host means the node that answered. A node that was given no name says `?`.
            host = answer.host if answer.host not in ("", "?") else asked[0].host
            owner = Address(host, int(answer.port))
            if not isinstance(answer, MovedError):
                return owner, True
            if self._owners:
                self._owners[answer.slot_id] = owner
            return owner, False
        if isinstance(answer, ClusterDownError | ReadOnlyError):
            self._stale = True
        return None

    async def _ask(self, address: Address, asking: bool, commands: Sequence[Command]) -> list[Any]:
        answers = await self._send(address, asking, commands)
        lost = [i for i, answer in enumerate(answers) if isinstance(answer, NoScriptError)]
        shas = {commands[i][0][1] for i in lost}
        if lost and shas <= self._scripts.keys():
            texts = [self._scripts[sha] for sha in shas]
            again = await self._send(address, asking, [commands[i] for i in lost], texts)
            for i, answer in zip(lost, again, strict=True):
                answers[i] = answer
        return answers

    async def _send(
        self, address: Address, asking: bool, commands: Sequence[Command], scripts: Sequence[str] = ()
    ) -> list[Any]:
        pipe = self._node(address).pipeline(transaction=False)
        for script in scripts:
            pipe.execute_command("SCRIPT LOAD", script)
        for args, options in commands:
            if asking:
                pipe.execute_command("ASKING")
            pipe.execute_command(*args, **options)
        try:
            answers: list[Any] = await pipe.execute(raise_on_error=False)
        except (RedisError, OSError) as error:
            self._stale = True
            return [error] * len(commands)
        answers = answers[len(scripts) :]
        return answers[1::2] if asking else answers

    def _node(self, address: Address) -> Redis:
        if address not in self._nodes:
            self._nodes[address] = self._connect_node(address)
        return self._nodes[address]

    async def _know_owners(self) -> None:
        """Ask for the owners of the slots when they are unknown, or a node failed since."""
        if not self._stale:
            return
        async with self._looking:
            if not self._stale:
                return
            self._owners = await self._asked_all()
            self._stale = False
            kept = {*self._owners, *self._seeds}
            gone = [self._nodes.pop(address) for address in list(self._nodes) if address not in kept]
        await asyncio.gather(*(node.aclose() for node in gone))

    async def _asked_all(self) -> list[Address | None]:
        """Return the first sound answer of all nodes, so that nodes that hang cost no time."""
        asked = [asyncio.create_task(self._owners_by(address)) for address in {*self._nodes, *self._seeds}]
        reasons = set()
        try:
            for answer in asyncio.as_completed(asked):
                try:
                    return await answer
                except (RedisError, OSError) as error:
                    reasons.add(str(error))
        finally:
            for task in asked:
                task.cancel()
            await asyncio.gather(*asked, return_exceptions=True)
        raise NotConnectedError(f"no node says who owns which slots: {'; '.join(sorted(reasons))}")

    async def _owners_by(self, address: Address) -> list[Address | None]:
        pipe = self._node(address).pipeline(transaction=False)
        pipe.execute_command("CLUSTER INFO")
        pipe.execute_command("CLUSTER SLOTS")
        info, ranges = await pipe.execute()
        # A node that is cut off from most others still has a map, which is outdated.
        if info["cluster_state"] != "ok":
            raise ClusterDownError(f"{address} says that the cluster's state is {info['cluster_state']!r}")
        owners: list[Address | None] = [None] * REDIS_CLUSTER_HASH_SLOTS
        for first, last, (host, port, *_), *_replicas in ranges:
            name = host.decode() if isinstance(host, bytes) else host
            owner = Address(name if name not in (None, "", "?") else address.host, int(port))
            owners[first : last + 1] = [owner] * (last + 1 - first)
        return owners


class _ClusterPipeline(Pipeline):
    def __init__(self, cluster: ClusterRedis) -> None:
        super().__init__(cluster.connection_pool, cluster.response_callbacks, False, None)
        self._cluster = cluster

    async def execute(self, raise_on_error: bool = True) -> list[Any]:
        stack, self.command_stack = self.command_stack, []
        answers = await self._cluster.run(stack) if stack else []
        if raise_on_error:
            for answer in answers:
                if isinstance(answer, Exception):
                    raise answer
        return answers


def _slot(words: Sequence[Any]) -> int:
    """Return the slot of a command's first key; the others have the same one, or the node refuses it."""
    return _slot_of_key(words[3] if words[0] in ("EVAL", "EVALSHA") else words[1])


def _slot_of_key(key: str | bytes) -> int:
    return key_slot(key.encode() if isinstance(key, str) else key)
