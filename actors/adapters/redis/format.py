"""Format of a store: a number that shows which versions of the program can read it.

    satmeter:format   the highest format that any server or host wrote with

An older version would not know what a newer one journaled. So it refuses a store of a newer format as a whole, before
it has claimed or changed anything in it, instead of finding out from one actor after the other.
"""

from __future__ import annotations

from typing import Any, Final

from redis.asyncio import Redis

from .guard import guarded

FORMAT: Final = 6
"""Format that this version writes. It is raised whenever journals or keys get what the version before can't read."""

_KEY: Final = "satmeter:format"
_RAISE: Final = """
local found = redis.call('GET', KEYS[1]) or '0'
local number = tonumber(found)
if number and number < tonumber(ARGV[1]) then redis.call('SET', KEYS[1], ARGV[1]) end
return found
"""


class NewerStoreError(Exception):
    """Store of a format that this version can't read. The text is for the operator."""

    def __init__(self, found: str) -> None:
        super().__init__(
            f"The store was written by a newer version of Satmeter (format {found}, this one reads up to {FORMAT}): "
            "start that version, or restore a backup. Nothing was changed."
        )


async def check_format(redis: Redis) -> None:
    """Raise `NewerStoreError` for a store that this version can't read, and `TransientError`. It writes nothing."""
    _refuse_newer(await guarded(redis.get(_KEY)) or b"0")


async def was_entered(redis: Redis) -> bool:
    """Return whether a server ever wrote to this store. Raises `TransientError`."""
    return await guarded(redis.get(_KEY)) is not None


async def enter_format(redis: Redis) -> None:
    """Check as `check_format` does, and note that this version writes to the store from now on."""
    _refuse_newer(await guarded(redis.register_script(_RAISE)(keys=[_KEY], args=[FORMAT])))


def _refuse_newer(found: Any) -> None:
    # A non-numeric format was not written by this version.
    if not found.isdigit() or int(found) > FORMAT:
        raise NewerStoreError(found.decode(errors="replace"))
