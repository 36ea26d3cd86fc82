"""How Python's collector of reference cycles is set in the processes that serve."""

from __future__ import annotations

import gc
from typing import Final

# Its own default is 700: a busy host would look through its young objects, nearly all of which end without it, at every
# other request, and through all actors in memory every few seconds.
_YOUNG_MAX: Final = 10_000


def settle_in() -> None:
    """To be called when a process has started: what is there by now stays, and need not be looked through again."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(_YOUNG_MAX, 10, 10)
