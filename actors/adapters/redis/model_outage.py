"""State of the model provider, its outage and its waits, in Redis or Valkey.

satmeter:model:<upstream>   a hash: `outage` and `wait:<model>` as JSON, `failures` as a number; expires without
                            updates. Without `:<upstream>` for `anthropic`, the only one without a models file.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec
from redis.asyncio import Redis

from ...model_health.outage import ANTHROPIC, ModelOutage, ModelWait, ModelWord
from .guard import guarded

_KEY: Final = "satmeter:model"
_OUTAGE: Final = "outage"
_FAILURES: Final = "failures"
_WAIT: Final = "wait:"
# Longer than the longest wait that a provider can ask for.
_HOLDS_MS: Final = 2 * 3_600_000

_SWAP: Final = """
if (redis.call('HGET', KEYS[1], 'outage') or '') ~= ARGV[1] then return 0 end
if ARGV[2] == '' then
  redis.call('HDEL', KEYS[1], 'outage', 'failures')
else
  redis.call('HSET', KEYS[1], 'outage', ARGV[2])
  redis.call('PEXPIRE', KEYS[1], ARGV[3])
end
return 1
"""


class RedisModelBoard:
    """Implementation of `ModelBoard`."""

    def __init__(self, redis: Redis, upstream: str = ANTHROPIC) -> None:
        self._redis = redis
        self._key = _KEY if upstream == ANTHROPIC else f"{_KEY}:{upstream}"
        self._swap = redis.register_script(_SWAP)

    async def read(self) -> ModelWord:
        """See `ModelBoard.read`. Raises `TransientError`."""
        found: dict[bytes, bytes] = await guarded(self._redis.hgetall(self._key))
        texts = {name.decode(): value for name, value in found.items()}
        waits = {name.removeprefix(_WAIT): value for name, value in texts.items() if name.startswith(_WAIT)}
        outage = texts.get(_OUTAGE)
        return ModelWord(
            None if outage is None else msgspec.json.decode(outage, type=ModelOutage),
            int(texts.get(_FAILURES, 0)),
            {model: msgspec.json.decode(value, type=ModelWait) for model, value in waits.items()},
        )

    async def swap(self, known: ModelOutage | None, new: ModelOutage | None) -> bool:
        """See `ModelBoard.swap`. Raises `TransientError`."""
        args: list[Any] = [_text(known), _text(new), _HOLDS_MS]
        return bool(await guarded(self._swap(keys=[self._key], args=args)))

    async def count_failure(self) -> int:
        """See `ModelBoard.count_failure`. Raises `TransientError`."""
        async with self._redis.pipeline(transaction=False) as pipe:
            pipe.hincrby(self._key, _FAILURES, 1)
            pipe.pexpire(self._key, _HOLDS_MS)
            count, _ = await guarded(pipe.execute())
        return int(count)

    async def forget_failures(self) -> None:
        """See `ModelBoard.forget_failures`. Raises `TransientError`."""
        await guarded(self._redis.hdel(self._key, _FAILURES))

    async def tell_wait(self, model: str, wait: ModelWait) -> None:
        """See `ModelBoard.tell_wait`. Raises `TransientError`."""
        async with self._redis.pipeline(transaction=False) as pipe:
            pipe.hset(self._key, f"{_WAIT}{model}", msgspec.json.encode(wait))
            pipe.pexpire(self._key, _HOLDS_MS)
            await guarded(pipe.execute())


def _text(outage: ModelOutage | None) -> bytes:
    return b"" if outage is None else msgspec.json.encode(outage)
