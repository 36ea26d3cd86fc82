"""Parameters of a query, on paths where a wrong name would mislead.

Elsewhere unknown ones are ignored: SDKs send some (`?beta=true`), and what passes links on appends its own.
"""

from __future__ import annotations

from typing import Final

from starlette.requests import Request

from ..response.errors import invalid_fields

_FIELDS_MAX: Final = 20


def refuse_unknown(request: Request, *names: str) -> None:
    """Refuse a query with other parameters than these. Raises `RefusedError` (400)."""
    known = " or ".join(names)
    unknown = [name for name in dict.fromkeys(request.query_params) if name not in names]
    if unknown:
        message = f"There is no such parameter; possible is {known}"
        raise invalid_fields([{"path": name, "message": message} for name in unknown[:_FIELDS_MAX]])
