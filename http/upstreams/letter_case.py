"""Names of JSON members that differ from known ones by their letters' case alone.

Servers in Go or .NET take both for the same name, and the last one counts. So what was checked here under the known
name would not be what they read.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from ..response.errors import invalid


def check_case(found: Mapping[str, Any], known: Collection[str], path: str = "") -> None:
    """Refuse an object with a known name in other letters. Raises `RefusedError` (400)."""
    for name in found:
        # Folded and not lowered: Go also takes the sign of Kelvin for a k, and the long s for an s.
        if name not in known and (meant := name.casefold()) in known:
            raise invalid(f"{path}.{name}".lstrip("."), f"Some servers read it as {meant}: write that, or leave it out")
