"""Faults of the model provider: reasons why it does not answer that do not lie in the request."""

from __future__ import annotations

from enum import StrEnum


class ModelFault(StrEnum):
    """Why a call to the model provider came to nothing.

    UNREACHABLE: there was no connection to it. UNAVAILABLE: it says that it can't serve just now. OVERLOADED: it takes
    nothing more just now. LIMITED: it takes nothing more of us just now. FAILING: it broke while it had the call, and
    may bill it. REFUSED: it does not accept our key, or our account there has no credit; only the operator can mend
    that.
    """

    UNREACHABLE = "unreachable"
    UNAVAILABLE = "unavailable"
    OVERLOADED = "overloaded"
    LIMITED = "limited"
    FAILING = "failing"
    REFUSED = "refused"
