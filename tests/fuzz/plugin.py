"""Pytest plugin of `scripts/fuzz`: a profile with other examples for each seed, and counts of the cases of each."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from tests.fuzz.counts import COUNTS, cases

# The tests themselves run with few examples, the same each time.
settings.register_profile(
    "fuzz",
    deadline=None,
    derandomize=False,
    max_examples=int(os.environ.get("FUZZ_EXAMPLES", "2000")),
    database=None,
    suppress_health_check=list(HealthCheck),
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Have each property count its cases."""
    if COUNTS not in os.environ:
        return
    wrapped: set[int] = set()
    for item in items:
        test = getattr(item, "obj", None)
        handle = getattr(test, "hypothesis", None)
        # All parameters of a test share its handle.
        if handle is not None and id(handle) not in wrapped:
            wrapped.add(id(handle))
            handle.inner_test = _counted(handle.inner_test, test.__name__)  # type: ignore[union-attr]


def pytest_sessionfinish() -> None:
    """Write the counts."""
    if COUNTS in os.environ:
        lines = [f"{count} {name}\n" for name, count in sorted(cases.items())]
        Path(os.environ[COUNTS]).write_text("".join(lines))


def _counted(test: Callable[..., Any], name: str) -> Callable[..., Any]:
    @wraps(test)
    def counted(*args: Any, **kwargs: Any) -> Any:
        cases[name] += 1
        return test(*args, **kwargs)

    return counted
