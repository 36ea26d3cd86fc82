"""Counts the cases of each test for `scripts/fuzz`, which asks for them by an environment variable."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import HealthCheck, settings

COUNTS: Final = "FUZZ_COUNTS"
"""The environment variable that names the file for the counts."""

# Of `scripts/fuzz`; the tests themselves run with few examples, as all others.
settings.register_profile(
    "fuzz",
    deadline=None,
    max_examples=int(os.environ.get("FUZZ_EXAMPLES", "2000")),
    database=None,
    suppress_health_check=list(HealthCheck),
)
_cases: Counter[str] = Counter()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Have each property count its cases."""
    if COUNTS not in os.environ:
        return
    # All parameters of a test share its handle.
    handles = {getattr(item.obj, "hypothesis", None): item.obj.__name__ for item in items if hasattr(item, "obj")}
    for handle, name in handles.items():
        if handle is not None:
            handle.inner_test = _counted(handle.inner_test, name)


def pytest_sessionfinish() -> None:
    """Write the counts."""
    if COUNTS in os.environ:
        lines = [f"{count} {name}\n" for name, count in sorted(_cases.items())]
        Path(os.environ[COUNTS]).write_text("".join(lines))


def _counted(test: Callable[..., Any], name: str) -> Callable[..., Any]:
    @wraps(test)
    def counted(*args: Any, **kwargs: Any) -> Any:
        _cases[name] += 1
        return test(*args, **kwargs)

    return counted
