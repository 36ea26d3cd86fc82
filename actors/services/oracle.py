"""BTC price for all callers: one fetch for all, a memory for when the source is down, and a fallback after that."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from decimal import Decimal
from typing import Any, Final

import structlog

from ...config.log_context import in_background
from ..cancellation import cancel_and_wait
from ..domain.pricing import BtcPrice, PriceOrigin
from ..ports import PortError, PriceSource, TransientError

_MEANWHILE: Final = "the last price counts meanwhile, or BTC_PRICE_USD_FALLBACK; it is asked for again"
_log = structlog.get_logger(__name__)

FRESH_MS: Final = 60_000
"""Time within which a fetched price is not fetched again."""
KEEP_MS: Final = 600_000
"""Time for which the last good price stands in for a source that fails."""
RETRY_AFTER_MS: Final = 10_000
"""Pause after a failed fetch, so that a dead source does not slow every caller down."""
FETCH_TIMEOUT_S: Final = 5.0
ASK_TIMEOUT_S: Final = 6.0
"""Time for an answer of the oracle: a little more than it takes for a fetch."""

_FACTOR_MAX: Final = 10
# No price has more digits. A number of thousands of digits would be carried into every invoice.
_DIGITS_MAX: Final = 28


class Oracle:
    """Price oracle that asks its source, at most once at a time. Plain: the cluster wraps it in the one oracle actor.

    It holds nothing that must survive: a new one fetches again. It never raises; `BtcPrice.origin` and `at_ms` say what
    an answer is worth.
    """

    def __init__(
        self,
        source: PriceSource,
        fallback_usd: Decimal,
        now_ms: Callable[[], int],
        *,
        fetch_timeout_s: float = FETCH_TIMEOUT_S,
    ) -> None:
        self._source = source
        self._fallback_usd = fallback_usd
        self._now_ms = now_ms
        self._fetch_timeout_s = fetch_timeout_s
        self._last_good: BtcPrice | None = None
        self._retry_at_ms: int | None = None
        self._wait_ms = RETRY_AFTER_MS
        self._fetching: asyncio.Task[None] | None = None
        self._trouble = _Trouble()

    async def price(self) -> BtcPrice:
        """Return the fetched price if under a minute old, else a new one, else the last good, else the fallback."""
        now_ms = self._now_ms()
        if self._fetching is None and not _within(self._last_good, now_ms, FRESH_MS) and self._may_fetch(now_ms):
            self._fetching = in_background(self._fetch())
        if self._fetching is not None:
            # Shielded: a caller that gives up must not end the fetch for the other callers.
            await asyncio.shield(self._fetching)
        return _usable(self._last_good, self._fallback_usd, self._now_ms())

    async def close(self) -> None:
        """End a fetch under way and the source's connections."""
        await cancel_and_wait([self._fetching])
        await self._source.close()

    def _may_fetch(self, now_ms: int) -> bool:
        # The wait is bounded on both sides. Otherwise a clock that was set back would stop fetches for hours.
        return self._retry_at_ms is None or not 0 <= self._retry_at_ms - now_ms <= self._wait_ms

    async def _fetch(self) -> None:
        self._wait_ms = RETRY_AFTER_MS
        try:
            async with asyncio.timeout(self._fetch_timeout_s):
                usd = await self._source.fetch()
            reference_usd = self._last_good.usd if self._last_good is not None else self._fallback_usd
            if _is_plausible(usd, reference_usd):
                self._last_good = BtcPrice(usd, PriceOrigin.COINGECKO, self._now_ms())
                self._retry_at_ms = None
                self._trouble.over("btc_price_back")
                return
            self._trouble.begins("btc_price_implausible", reference_usd=str(reference_usd), hint=_MEANWHILE)
        except Exception as error:
            # Only our own errors' text is logged. Another's may hold the address, and with it the operator's key to the
            # source.
            reason = str(error) if isinstance(error, PortError) else None
            if isinstance(error, TransientError) and error.retry_after_s is not None:
                self._wait_ms = max(RETRY_AFTER_MS, int(error.retry_after_s * 1_000))
            self._trouble.begins("btc_price_fetch_failed", error=type(error).__name__, reason=reason, hint=_MEANWHILE)
        finally:
            self._fetching = None
        self._retry_at_ms = self._now_ms() + self._wait_ms


class _Trouble:
    """Log of a failure when it begins, when it becomes another one, and when it is over: not at each attempt."""

    def __init__(self) -> None:
        self._event: str | None = None

    def begins(self, event: str, **fields: Any) -> None:
        """Log the event, unless it is the one that was logged last."""
        if self._event != event:
            _log.warning(event, **fields)
        self._event = event

    def over(self, event: str) -> None:
        """Log the event, if there was trouble."""
        if self._event is not None:
            _log.info(event)
        self._event = None


class PriceCache:
    """Cache of the oracle's price in a host or front, so that no request has to ask for it.

    A caller waits only when memory holds no usable price and the oracle did not just fail: at the very first time, and
    after ten minutes without a question.
    """

    def __init__(
        self,
        ask: Callable[[], Awaitable[BtcPrice]],
        fallback_usd: Decimal,
        now_ms: Callable[[], int],
        refresh_after_s: int = 15,
        *,
        ask_timeout_s: float = ASK_TIMEOUT_S,
    ) -> None:
        self._ask = ask
        self._fallback_usd = fallback_usd
        self._now_ms = now_ms
        self._refresh_after_ms = refresh_after_s * 1_000
        self._ask_timeout_s = ask_timeout_s
        self._last: BtcPrice | None = None
        self._asked_at_ms: int | None = None
        self._failed = False
        self._trouble = _Trouble()
        self._refreshing: asyncio.Task[None] | None = None

    async def current(self) -> BtcPrice:
        """Return the price now. Never raises, and waits at most `ask_timeout_s`."""
        now_ms = self._now_ms()
        asked_at_ms = self._asked_at_ms
        if self._refreshing is None and (asked_at_ms is None or abs(now_ms - asked_at_ms) >= self._refresh_after_ms):
            self._asked_at_ms = now_ms
            self._refreshing = in_background(self._refresh())
        if self._refreshing is not None and not self._failed and not _within(self._last, now_ms, KEEP_MS):
            await asyncio.shield(self._refreshing)
        return _usable(self._last, self._fallback_usd, self._now_ms())

    async def close(self) -> None:
        """End a refresh under way."""
        await cancel_and_wait([self._refreshing])

    async def _refresh(self) -> None:
        try:
            async with asyncio.timeout(self._ask_timeout_s):
                self._last = await self._ask()
            self._failed = False
            self._trouble.over("btc_price_oracle_back")
        except Exception as error:
            self._failed = True
            self._trouble.begins("btc_price_oracle_unreachable", error=type(error).__name__)
        finally:
            self._refreshing = None


def _within(price: BtcPrice | None, now_ms: int, age_ms: int) -> bool:
    # The distance counts, not the difference: clocks of two machines differ. A clock that was set back must not make an
    # old price young for hours.
    return price is not None and abs(now_ms - price.at_ms) < age_ms


def _usable(price: BtcPrice | None, fallback_usd: Decimal, now_ms: int) -> BtcPrice:
    if price is not None and _within(price, now_ms, KEEP_MS):
        return price
    return BtcPrice(fallback_usd, PriceOrigin.FALLBACK, now_ms)


def _is_plausible(usd: Decimal, reference_usd: Decimal) -> bool:
    return (
        usd.is_finite()
        and len(usd.as_tuple().digits) <= _DIGITS_MAX
        and reference_usd / _FACTOR_MAX <= usd <= reference_usd * _FACTOR_MAX
    )
