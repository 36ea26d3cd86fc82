"""What the contract tests share: the real counterparts."""

from tests.lnbits.fixtures import lnbits as lnbits
