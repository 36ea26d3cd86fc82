"""Parts of a Responses request that its answer depends on, whichever API the upstream speaks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from .tools import Called


class Wanted(msgspec.Struct, frozen=True):
    """Options of an answer: what it repeats, and what it shows.

    `echo` are the fields of the request that the answer repeats, `tools` the tools by their names at the provider.
    `seals`: thoughts are given back for the next request; `summarizes`: they are shown.
    """

    echo: dict[str, Any]
    tools: Mapping[str, Called]
    seals: bool
    summarizes: bool
