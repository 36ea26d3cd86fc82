"""Fixtures of the contract tests: the real counterparts."""

from tests.lnbits.fixtures import lnbits

__all__ = ["lnbits"]
