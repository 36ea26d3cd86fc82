"""Unknown environment variables that look like settings: a mistyped name would otherwise be ignored silently."""

from __future__ import annotations

from collections.abc import Mapping, Set
from difflib import get_close_matches
from typing import Final

from .problem import Problem
from .secret_names import CLIENT_SECRETS, IN_A_FILE, SECRETS
from .settings import Settings

_OURS: Final = "SATMETER_"
# The variables of clients and tools, which are not settings of the server.
_OTHERS: Final = frozenset(
    {
        "SATMETER_URL",
        "SATMETER_BUDGET_SATS",
        "SATMETER_CALL_MAX_SATS",
        "SATMETER_SESSION_FILE",
        "SATMETER_WALLET",
        "SATMETER_WALLET_LNBITS_URL",
        *CLIENT_SECRETS,
        "SATMETER_BENCH_OTHER",
        "SATMETER_LAUNCHED_BY",
        "SATMETER_LOG_SOCKET",
    }
)
# Any unknown name with our prefix is a mistake. A name without it is one only if it is very similar to a known one.
_LIKENESS_OURS: Final = 0.6
_LIKENESS: Final = 0.9


def unknown_variables(environment: Mapping[str, str]) -> list[Problem]:
    """Return a problem for each variable that is set, and is probably a mistyped setting."""
    settings = {str(field.validation_alias) for field in Settings.model_fields.values()}
    known = settings | _OTHERS | {f"{name}{IN_A_FILE}" for name in (*SECRETS, *CLIENT_SECRETS)}
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
    # The common prefix would make all names similar.
    parts = sorted(other.removeprefix(_OURS) for other in known if other.startswith(_OURS))
    near = get_close_matches(name.removeprefix(_OURS), parts, n=1, cutoff=_LIKENESS_OURS)
    return f"{_OURS}{near[0]}" if near else None
