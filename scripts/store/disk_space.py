"""Whether the disk under the embedded store has room.

With `appendfsync always` the server ends at the first write that does not fit, so that it acknowledges nothing that is
not on disk. Started again on a full disk it would load everything only to end at the next write.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Final

import structlog

# A write is some kilobytes. Below this, the next one or the one after it would end the store again.
ROOM_MIN_BYTES: Final = 1_048_576
_LOOK_EVERY_S: Final = 0.5
_log = structlog.get_logger(__name__)


def lacks_room(directory: Path) -> bool:
    """Whether the disk that the directory is on is full."""
    try:
        return shutil.disk_usage(directory).free < ROOM_MIN_BYTES
    except OSError:
        return False


async def until_room(directory: Path, needless: Callable[[], bool], look_every_s: float = _LOOK_EVERY_S) -> None:
    """Returns once the disk has room, or nobody needs it any more. Says once that it is full, and that it is not."""
    if not lacks_room(directory):
        return
    _log.error(
        "disk_full",
        hint="make room, and the store goes on by itself",
        directory=str(directory),
        needed_bytes=ROOM_MIN_BYTES,
    )
    while lacks_room(directory):
        if needless():
            return
        await asyncio.sleep(look_every_s)
    _log.warning("disk_has_room_again", directory=str(directory))
