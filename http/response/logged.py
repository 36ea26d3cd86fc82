"""Fields of a refused request's log entry: why it was refused, without what its client wrote."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from starlette.exceptions import HTTPException

from ...actors.domain.errors import Code, RefusedError
from ...actors.ports import TransientError
from .advice import INTERNAL_ERROR

# Of the details of a refusal these are the server's own words and figures.
_DETAILS: Final[Mapping[str, str]] = {
    "requiredMsat": "required_msat",
    "balanceMsat": "balance_msat",
    "leftMsat": "left_msat",
    "state": "state",
    "caveat": "caveat",
}
_PATH: Final = re.compile(r"[A-Za-z][A-Za-z0-9_.]{0,63}")
_PATHS_MAX: Final = 5


def reason_of(error: Exception) -> dict[str, Any]:
    """Return the code of the error body, and what it is about; nothing for an error whose status says all."""
    if isinstance(error, RefusedError):
        refusal = error.refusal
        found = {ours: refusal.details[name] for name, ours in _DETAILS.items() if name in refusal.details}
        paths = [str(field.get("path", "")) for field in refusal.details.get("fields", ())]
        # A client may name its fields as it likes.
        if paths := [path for path in paths if _PATH.fullmatch(path)][:_PATHS_MAX]:
            found["fields"] = paths
        return {"code": refusal.code.value, **found}
    if isinstance(error, TransientError):
        return {"code": Code.UNAVAILABLE.value}
    return {} if isinstance(error, HTTPException) else {"code": INTERNAL_ERROR}
