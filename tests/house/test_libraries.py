"""Libraries that are imported, against those that pyproject.toml declares."""

from __future__ import annotations

import re
import sys
import tomllib
from collections.abc import Iterable
from importlib.metadata import packages_distributions

from .source import FILES, ROOT, imports_of

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
OURS = frozenset({"satmeter", "tests"})


def _names(requirements: Iterable[str]) -> frozenset[str]:
    """Return the distributions' names, as PEP 503 normalises them."""
    found = (re.match(r"[\w.-]+", requirement, re.ASCII) for requirement in requirements)
    return frozenset(re.sub(r"[-_.]+", "-", name[0]).lower() for name in found if name)


SERVER = _names(PROJECT["dependencies"])
# What drives a client of others runs in that client's own environment, with a lock of its own.
OF_OTHERS = "tests/clients/real/drivers/"
# Folders whose library is an extra: only a server that uses them has to have it.
OF_EXTRAS = {
    "actors/adapters/nwc/": _names(PROJECT["optional-dependencies"]["nwc"]),
    "actors/metrics/tracing.py": _names(PROJECT["optional-dependencies"]["traces"]) | {"opentelemetry-api"},
}
TESTS_TOO = SERVER | _names(PROJECT["optional-dependencies"]["dev"])


def test_every_library_that_is_imported_is_declared() -> None:
    # Another library may bring it today and not tomorrow, or in a version that nobody chose.
    distributions = packages_distributions()
    wrong = []
    for name in FILES:
        if name.startswith(OF_OTHERS):
            continue
        extras = {each for folder, names in OF_EXTRAS.items() if name.startswith(folder) for each in names}
        declared = TESTS_TOO if name.startswith("tests/") else SERVER | extras
        for line, ours, module in imports_of(name):
            top = module.partition(".")[0]
            if not ours and top not in sys.stdlib_module_names and top not in OURS:
                # What has no wheel for this Python is not installed, and imported behind `importorskip`.
                brought_by = _names(distributions.get(top, [top]))
                if not brought_by & declared:
                    wrong.append(f"{name}:{line} imports {top}, of {', '.join(brought_by)}")
    assert wrong == []
