"""Checks of `satmeter serve` before it starts: all that forbids the start, in one list, and what is only warned of."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from ...actors.adapters.lightning.backend import Probed
from ...actors.adapters.lightning_backends import CHOICE, backend_of
from ...config.problem import Problem
from ...config.settings import Settings
from .settings_checks import problems
from .store_age import older_store_problems
from .store_checks import store_problems, store_warnings
from .wallet_probes import probed_wallet


async def start_problems(
    settings: Settings, unreadable: Sequence[Problem] = (), *, accept_loss: bool = False
) -> tuple[list[Problem], list[Problem]]:
    """Return the problems that forbid the start, and the warnings.

    A part is asked, and gets its key, only if nothing is wrong with its address and keys.
    accept_loss: the operator takes a store that is older than what it confirmed.
    """
    found = [*unreadable, *problems(settings)]
    faulty = {problem.variable.partition(".")[0] for problem in found}
    backend = backend_of(settings)
    store, wallet = await asyncio.gather(
        _store(settings, accept_loss=accept_loss) if "REDIS_URL" not in faulty else _none(),
        probed_wallet(settings) if not faulty & {CHOICE, *backend.variables} else _unasked(),
    )
    # The server starts without the node, and waits for it, as it does later.
    key_too = backend.address == backend.pays_with
    waits_for = {backend.address} if wallet.away or not key_too else set()
    refused = [problem for problem in wallet.problems if settings.production and problem.variable not in waits_for]
    found += [*store, *refused]
    if found:
        return found, []
    return [], [*await store_warnings(settings), *wallet.problems, *wallet.warnings]


async def _store(settings: Settings, *, accept_loss: bool) -> list[Problem]:
    found = await store_problems(settings)
    return found if found or accept_loss else await older_store_problems(settings)


async def _none() -> list[Problem]:
    return []


async def _unasked() -> Probed:
    return Probed()
