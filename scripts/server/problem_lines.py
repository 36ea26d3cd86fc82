"""Problems of a configuration, as `satmeter serve` tells them: in words on a terminal, else as entries of the log."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from ...config.log_entry import say
from ...config.problem import Problem


def show_problems(found: Sequence[Problem], *, refused: bool) -> None:
    """Tell the operator of problems. refused: they forbid the start; the others are warnings."""
    level, event = ("error", "setting_refused") if refused else ("warning", "setting_questioned")
    for problem in found:
        words = f"{problem.variable}: {problem.message}"
        say(sys.stderr, level, event, "server", words, variable=problem.variable)
