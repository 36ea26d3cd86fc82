"""Licences of all installed packages, against those that the project may be used and passed on under."""

from __future__ import annotations

import re
from importlib.metadata import Distribution, distributions

import pytest

ALLOWED = {
    "MIT", "MIT-0", "BSD-2-Clause", "BSD-3-Clause", "Apache-2.0", "ISC", "PSF-2.0", "Zlib", "0BSD", "Unlicense",
    # Of single files, which nobody changes here.
    "MPL-2.0",
}  # fmt: skip
# What older metadata says instead of an identifier.
CALLED = {
    "MIT License": "MIT",
    "The MIT License": "MIT",
    "BSD License": "BSD-3-Clause",
    "3-Clause BSD License": "BSD-3-Clause",
    "Apache": "Apache-2.0",
    "Apache 2.0": "Apache-2.0",
    "Apache Software License": "Apache-2.0",
    "ISC License": "ISC",
    "ISC License (ISCL)": "ISC",
    "Python Software Foundation License": "PSF-2.0",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
}
# Packages whose metadata says nothing, with what their own licence file says.
NAMED: dict[str, str] = {}
OURS = {"satmeter"}


def licence_of(package: Distribution) -> str:
    """The licence as an expression, by the first of its fields that says one."""
    metadata = package.metadata
    if "License-Expression" in metadata:
        return metadata["License-Expression"]
    classifiers = [text.rpartition(" :: ")[2] for text in metadata.get_all("Classifier") or []]
    told = [CALLED[name] for name in classifiers if name in CALLED]
    plain = str((metadata.get_all("License") or [""])[0]).strip().partition("\n")[0].strip()
    if plain in ALLOWED | CALLED.keys() or " OR " in plain:
        return CALLED.get(plain, plain)
    return " AND ".join(told) or NAMED.get(metadata["Name"], plain or "unknown")


def is_allowed(expression: str) -> bool:
    """Return whether all parts are allowed; of alternatives one is enough."""
    parts = re.sub(r"[()]", "", expression).split(" AND ")
    return all(any(name.strip() in ALLOWED for name in part.split(" OR ")) for part in parts)


def test_all_licences_are_allowed() -> None:
    packages = {package.metadata["Name"]: package for package in distributions()}
    assert len(packages) > 90
    found = {name: licence_of(package) for name, package in packages.items() if name not in OURS}
    assert {name: licence for name, licence in found.items() if not is_allowed(licence)} == {}


@pytest.mark.parametrize(
    ("expression", "allowed"),
    [
        ("MIT", True),
        ("GPL-3.0-only", False),
        ("MIT AND GPL-3.0-only", False),
        ("MIT OR GPL-3.0-only", True),
        ("(Apache-2.0 OR BSD-3-Clause) AND MIT", True),
        ("AGPL-3.0-or-later", False),
        ("unknown", False),
        ("", False),
    ],
)
def test_what_is_allowed(expression: str, allowed: bool) -> None:
    assert is_allowed(expression) is allowed
