"""Progress of a load test: live in a terminal, else in a few plain lines."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final

from rich.console import Console
from rich.live import Live
from rich.text import Text

from .runner import Load

_EVERY_S: Final = 0.25


class Progress:
    """Progress on a console, which is standard error."""

    def __init__(self, console: Console) -> None:
        self._console = console

    @asynccontextmanager
    async def showing(self, what: str, line: Callable[[], str]) -> AsyncIterator[None]:
        """Show what is being done while the block runs, and in a terminal how far it is."""
        if not self._console.is_terminal:
            self._console.print(f"{what} ...", highlight=False)
            yield
            return

        def text() -> Text:
            return Text(f"{what}: {line()}", no_wrap=True, overflow="ellipsis")

        # The library's own thread is not used: it would read while the loop writes.
        with Live(text(), console=self._console, auto_refresh=False) as live:
            refreshing = asyncio.create_task(_refresh(live, text))
            try:
                yield
            finally:
                refreshing.cancel()
                live.update(text(), refresh=True)


async def _refresh(live: Live, text: Callable[[], Text]) -> None:
    while True:
        await asyncio.sleep(_EVERY_S)
        live.update(text(), refresh=True)


def load_line(load: Load) -> str:
    """Return the load at a glance; rate and percentiles are those of the last seconds."""
    now_s = load.now_s
    recent, span_s = load.recorder.window(now_s)
    p50_s, p99_s = recent.latency.percentile_s(50), recent.latency.percentile_s(99)
    latency = f"p50 {p50_s * 1_000:,.0f} ms, p99 {p99_s * 1_000:,.0f} ms" if p50_s and p99_s else "no answer lately"
    return (
        f"{now_s:.0f} s, {recent.answered / span_s:,.0f} requests/s, {load.in_flight:,} in flight, "
        f"{load.recorder.failed:,} errors, {latency}"
    )
