"""Command line of `satmeter archive`."""

from __future__ import annotations

import typer

from ...actors.adapters.redis.archive import RedisArchive
from ...actors.adapters.redis.audit import AuditStore
from ...actors.adapters.redis.format import NewerStoreError, check_format
from ...actors.bootstrap import build_behaviours
from ...actors.clock import system_now_ms
from ...actors.ports import TransientError
from ...config.settings import Settings
from ..open_store import NoStoreError, parts_of_store
from ..signals import run_until_interrupted
from ..store.embedded import StoreError
from .archive import DAY_MS, ArchiveError, Archiver


def run(settings: Settings) -> int:
    """Archive, print how many actors that were, and return the exit status."""
    if settings.archive_file is None or settings.retention_days is None:
        typer.echo("Nothing is archived without a file and a time: name them by --to and --older-than.", err=True)
        return 2
    try:
        count = run_until_interrupted(_archive(settings))
    except (NoStoreError, ArchiveError, NewerStoreError, StoreError, TransientError, OSError) as error:
        typer.echo(str(error), err=True)
        return 1
    typer.echo(f"{count} archived in {settings.archive_file}.")
    return 0


async def _archive(settings: Settings) -> int:
    assert settings.archive_file is not None and settings.retention_days is not None
    async with parts_of_store(settings) as parts:
        await check_format(parts.redis)
        store, archive = AuditStore(parts.redis), RedisArchive(parts.redis)
        before_ms = system_now_ms() - settings.retention_days * DAY_MS
        return await Archiver(store, archive, build_behaviours(settings), before_ms).run(settings.archive_file)
