"""Store of a command that reads one: the operator's own, or a server's, whether it runs or not."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from ..actors.bootstrap import Parts, build_parts
from ..actors.ports import TransientError
from ..config.settings import Settings
from .store.embedded import EmbeddedStore, running_store_url


class NoStoreError(Exception):
    """A missing store; the text says what to do."""


async def _running(settings: Settings) -> str | None:
    """Return the URL of the store of a running server; None if only the address of a killed server is left."""
    url = running_store_url(settings.data_dir)
    if url is None:
        return None
    parts = build_parts(settings.model_copy(update={"redis_url": url}))
    try:
        await parts.journal.owners([0])
    except TransientError:
        return None
    finally:
        await parts.close()
    return url


@asynccontextmanager
async def parts_of_store(settings: Settings) -> AsyncIterator[Parts]:
    """Yield the parts over the store of these settings. Raises `NoStoreError` without a store, and `StoreError`."""
    embedded = None
    url = settings.redis_url or await _running(settings)
    if url is None:
        if not (settings.data_dir / "store").is_dir():
            text = f"There is no store in {settings.data_dir}: name a server's --data-dir, or a --redis-url."
            raise NoStoreError(text)
        embedded = EmbeddedStore(settings.data_dir)
        url = await embedded.start()
    parts = build_parts(settings.model_copy(update={"redis_url": url}))
    try:
        yield parts
    finally:
        await parts.close()
        if embedded is not None:
            await embedded.stop()
