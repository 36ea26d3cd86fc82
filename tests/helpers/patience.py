"""Patience of tests: so long that only what never comes fails, on the slowest machine."""

from __future__ import annotations

import os
from typing import Final

PATIENCE_S: Final = 60.0 * float(os.environ.get("TEST_PATIENCE", "1"))
"""`TEST_PATIENCE` multiplies it. A test that waits in vain is ended by pytest's own limit, which is longer."""

PROGRAM_S: Final = 8 * PATIENCE_S
"""Longest run of a program that a test waits for."""
