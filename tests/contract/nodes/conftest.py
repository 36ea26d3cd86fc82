"""Worlds that the contract of all backends is held by."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager

import pytest

from tests.helpers.payout_owners import OwnersInMemory
from tests.lightning.world import World
from tests.lightning.worlds.lnbits import lnbits_world
from tests.lightning.worlds.lnd import lnd_world
from tests.lightning.worlds.nwc import nwc_world
from tests.lightning.worlds.phoenixd import phoenixd_world
from tests.lightning.worlds.stub import stub_world

MakeWorld = Callable[[pytest.FixtureRequest], AbstractAsyncContextManager[World]]

# Fixtures are asked for by name, so that a world without a need for LNbits or a store starts none.
WORLDS: dict[str, MakeWorld] = {
    "stub": lambda request: stub_world(request.getfixturevalue("redis")),
    "lnbits": lambda request: lnbits_world(request.getfixturevalue("lnbits")),
    "lnd": lambda _: lnd_world(),
    "nwc": lambda request: nwc_world(request.getfixturevalue("nostr_relay"), OwnersInMemory()),
    "phoenixd": lambda request: phoenixd_world(OwnersInMemory()),
}


@pytest.fixture(params=WORLDS)
def opening(request: pytest.FixtureRequest) -> AbstractAsyncContextManager[World]:
    """The way into the world of each backend in turn. Not a coroutine, which could not ask for other fixtures."""
    return WORLDS[request.param](request)


@pytest.fixture
async def world(opening: AbstractAsyncContextManager[World]) -> AsyncIterator[World]:
    """A world around a node."""
    async with opening as made:
        yield made
