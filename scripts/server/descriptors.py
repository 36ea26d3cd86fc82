"""Limit of open files: systems begin with a low one, for programs that no longer exist."""

from __future__ import annotations

import contextlib
import resource


def raise_limit() -> None:
    """Let this process, and those that it starts, have as many open files as the system allows it.

    With 1,024, a thousand idle connections keep all other clients away.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    # macOS says that there is no limit, and then refuses.
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
