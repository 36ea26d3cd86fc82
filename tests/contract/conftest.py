"""What the contract tests share: the real counterparts."""

from tests.lnbits.fixtures import lnbits

__all__ = ["lnbits"]
