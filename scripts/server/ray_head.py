"""`satmeter ray-head`: Ray's head with its state in a store, whose password it keeps off all command lines."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Sequence

from redis.exceptions import RedisError

from ...config.loading import load_settings
from ...config.log_entry import say
from ...config.problem import Problem
from ...config.secret_names import IN_A_FILE
from ...config.settings import Settings
from ..preflight.ray_store import ray_store_of, ray_store_problems
from .environment import without_secrets
from .problem_lines import show_problems


def run(words: Sequence[str]) -> int:
    """Be `ray start --head` with these options; return 1 if production refuses its store, or it does not start."""
    settings, unreadable = load_settings({})
    found = asyncio.run(_problems(settings))
    # A mistyped SATMETER_ENV counts as development. Without the password that is meant, Ray would be another user.
    found += [problem for problem in unreadable if problem.variable == "SATMETER_ENV"]
    names = {problem.variable for problem in found}
    refused = settings.production or any(name == "SATMETER_ENV" or name.endswith(IN_A_FILE) for name in names)
    show_problems(found, refused=refused)
    if found and refused:
        return 1
    store = ray_store_of(os.environ)
    # Ray's processes inherit what is here. They do without secrets.
    kept, _ = without_secrets(os.environ)
    for name in {*os.environ} - {*kept}:
        del os.environ[name]
    # Imported last, as it loads Ray.
    from ...actors.cluster import run_head
    from ...actors.ray_start import RayStartError

    try:
        run_head(words, *(("", "") if store is None else (store.user, store.password)))
    except RayStartError as error:
        say(sys.stderr, "error", "ray_head_not_started", "server", f"Ray's head was not started: {error}.")
    return 1


async def _problems(settings: Settings) -> list[Problem]:
    try:
        return await ray_store_problems(os.environ, settings)
    except (RedisError, OSError):
        return []  # Ray itself waits for its store.
