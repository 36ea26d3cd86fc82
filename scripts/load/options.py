"""Options of a load test."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

RATE_DEFAULT_PER_S: Final = 50.0
DEPOSIT_DEFAULT_SATS: Final = 10_000
IN_FLIGHT_DEFAULT: Final = 1_000
IN_FLIGHT_MAX: Final = 20_000
# Each answer is remembered for the check of the books, in about 200 bytes.
REQUESTS_MAX: Final = 20_000_000


class LoadError(Exception):
    """A reason why the test can't go on; the text says why, and how to mend it."""


@dataclass(frozen=True, slots=True)
class Options:
    """The flags of `satmeter load`. Exactly one of `rate_per_s` (open loop) and `think_s` (closed loop) is set."""

    url: str
    sessions: int = 50
    rate_per_s: float | None = RATE_DEFAULT_PER_S
    think_s: float | None = None
    duration_s: float = 30.0
    stream: bool = False
    deposit_sats: int = DEPOSIT_DEFAULT_SATS
    max_tokens: int = 200
    request: str = "Name three uses of a sextant."
    in_flight_max: int = IN_FLIGHT_DEFAULT
    timeout_s: float = 120.0
    lnbits_url: str | None = None
    admin_key: str = field(default="", repr=False)
    refund: bool = True
    keep: Path | None = None
    json_to: str | None = None
    plot: Path | None = None
