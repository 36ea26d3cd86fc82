"""The tests against a real LNbits run or fail: they never skip without a word."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lnbits import install


def candidates(*names: str) -> Iterator[str]:
    yield from names


def test_without_a_fitting_python_the_failure_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(install, "_candidates", lambda: candidates("/nowhere/python3.12", "/bin/false"))
    with pytest.raises(install.InstallError, match=r"3\.10, 3\.11 or 3\.12.*LNBITS_PYTHON="):
        install.find_python()


def test_a_python_that_is_too_new_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    versions = {"new": (3, 13), "old": (3, 9), "fits": (3, 12), "fits too": (3, 10)}
    monkeypatch.setattr(install, "_candidates", lambda: candidates(*versions))
    monkeypatch.setattr(install, "_version_of", versions.get)
    assert install.find_python() == "fits"


def test_the_python_that_is_named_goes_before_all_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LNBITS_PYTHON", "/opt/own/python3.12")
    first, second, *_ = install._candidates()
    assert (first, second) == ("/opt/own/python3.12", sys.executable)


def test_every_package_of_lnbits_is_pinned() -> None:
    lines = Path(install.__file__).with_name("constraints.txt").read_text().split()
    assert f"lnbits=={install.VERSION}" in lines
    assert all("==" in line for line in lines)
