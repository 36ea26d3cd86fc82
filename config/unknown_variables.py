"""Environment variables that look like ours and are not: a mistyped name would else be passed over in silence."""

from __future__ import annotations

from collections.abc import Mapping, Set
from difflib import get_close_matches
from typing import Final

from .problem import Problem
from .settings import Settings

_OURS: Final = "SATMETER_"
# Those of clients and tools, which are no settings of the server.
_OTHERS: Final = frozenset(
    {
        "SATMETER_URL",
        "SATMETER_BUDGET_SATS",
        "SATMETER_CALL_MAX_SATS",
        "SATMETER_SESSION_FILE",
        "SATMETER_WALLET",
        "SATMETER_WALLET_LNBITS_URL",
        "SATMETER_WALLET_LNBITS_KEY",
        "SATMETER_LOAD_ADMIN_KEY",
        "SATMETER_BENCH_OTHER",
        "SATMETER_LAUNCHED_BY",
        "SATMETER_LOG_SOCKET",
    }
)
_IN_A_FILE: Final = "_FILE"
# Any name of ours that is unknown is a mistake; another one only when it is a letter away from one that is known.
_LIKENESS_OURS: Final = 0.6
_LIKENESS: Final = 0.9


def unknown_variables(environment: Mapping[str, str]) -> list[Problem]:
    """Return a problem for each variable that is set, means nothing here, and probably should."""
    settings = {str(field.validation_alias) for field in Settings.model_fields.values()}
    known = settings | _OTHERS | {f"{name}{_IN_A_FILE}" for name in settings}
    found = []
    for name, value in environment.items():
        plain = name.upper()
        if not value or plain in known:
            continue
        if nearest := _nearest(plain, settings | _OTHERS):
            found.append(Problem(name, f"There is no such setting: did you mean {nearest}?"))
        elif plain.startswith(_OURS):
            found.append(Problem(name, "There is no such setting: remove it, or look for its name in the README."))
    return sorted(found, key=lambda problem: problem.variable)


def _nearest(name: str, known: Set[str]) -> str | None:
    if not name.startswith(_OURS):
        return next(iter(get_close_matches(name, sorted(known), n=1, cutoff=_LIKENESS)), None)
    # The part that all have in common would make all alike.
    parts = sorted(other.removeprefix(_OURS) for other in known if other.startswith(_OURS))
    near = get_close_matches(name.removeprefix(_OURS), parts, n=1, cutoff=_LIKENESS_OURS)
    return f"{_OURS}{near[0]}" if near else None
