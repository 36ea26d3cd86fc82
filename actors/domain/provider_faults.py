"""Faults of the model provider: reasons for a missing answer that do not lie in the request."""

from __future__ import annotations

from enum import StrEnum


class ModelFault(StrEnum):
    """Reasons why a call to the model provider failed.

    UNREACHABLE: there was no connection. UNAVAILABLE: the provider says that it can't serve just now. OVERLOADED: it
    takes no more calls just now. LIMITED: it takes no more calls of ours just now. FAILING: it broke during the call,
    and may bill it. REFUSED: it does not accept our key, or our account there has no credit; only the operator can
    mend that.
    """

    UNREACHABLE = "unreachable"
    UNAVAILABLE = "unavailable"
    OVERLOADED = "overloaded"
    LIMITED = "limited"
    FAILING = "failing"
    REFUSED = "refused"
