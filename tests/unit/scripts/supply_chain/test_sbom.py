"""Bill of materials: what the server needs to run, and nothing of the tests'."""

from __future__ import annotations

from typing import Any

import pytest

from satmeter.scripts.supply_chain.sbom import needed, pruned

PACKAGES = {
    "satmeter": ["redis[hiredis]>=8", "Web_Server; python_version > '3'", "pytest; extra == 'dev'", "gone; os == 'x'"],
    "redis": ['hiredis>=3; extra == "hiredis"', "jwt; extra == 'jwt'"],
    "hiredis": [],
    "web-server": ["h11", "redis"],
    "h11": [],
    "jwt": [],
    "pytest": ["h11"],
}
BOM: dict[str, Any] = {
    "specVersion": "1.6",
    "metadata": {"component": {"bom-ref": "root", "name": "satmeter"}},
    "components": [
        {"bom-ref": f"{name}==1", "name": name} for name in ("redis", "hiredis", "Web.Server", "h11", "jwt", "pytest")
    ],
    "dependencies": [],
}


def test_extras_count_where_they_are_asked_for() -> None:
    assert needed("Satmeter", PACKAGES.get) == {
        "satmeter": {"redis", "web-server"},
        "redis": {"hiredis"},
        "hiredis": set(),
        "web-server": {"h11", "redis"},
        "h11": set(),
    }


def test_the_bill_has_what_is_needed_and_what_that_needs() -> None:
    bill = pruned(BOM, needed("satmeter", PACKAGES.get), "0.1.0")
    assert [component["name"] for component in bill["components"]] == ["h11", "hiredis", "redis", "Web.Server"]
    assert bill["metadata"]["component"]["version"] == "0.1.0" and bill["specVersion"] == "1.6"
    assert bill["dependencies"][0] == {"ref": "root", "dependsOn": ["Web.Server==1", "redis==1"]}
    assert {"ref": "Web.Server==1", "dependsOn": ["h11==1", "redis==1"]} in bill["dependencies"]


def test_a_package_that_the_bill_lacks_is_an_error() -> None:
    with pytest.raises(ValueError, match="lacks hiredis"):
        pruned({**BOM, "components": BOM["components"][:1]}, {"satmeter": {"hiredis"}, "hiredis": set()}, "1")
