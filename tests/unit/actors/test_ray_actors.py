"""Ray actors, as plain objects in this process."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any, cast

import pytest
from structlog.testing import capture_logs

from satmeter.actors import ray_actors
from satmeter.actors.cancellation import cancel_and_wait
from satmeter.actors.model_health.health_check import ModelWatch
from satmeter.actors.ray_actors import DedicatedActor, HostActor, OracleActor, TreasuryActor, Wiring
from satmeter.actors.services.oversight import Oversight
from satmeter.actors.services.solvency import SolvencyWatch
from satmeter.actors.services.treasury import Treasury
from satmeter.config.held_secrets import Handout, Role, without_secrets
from satmeter.config.secret_socket import NoSecretsError
from satmeter.config.settings import Settings
from satmeter.scripts.server.secret_server import handout_for

WIRING = Wiring("node", "127.0.0.1", "cluster", *[None] * 4, treasury=lambda: cast(Any, None))  # type: ignore[arg-type,misc]


def host() -> HostActor:
    return HostActor(lambda: WIRING, {}, "host-1")


def dedicated() -> DedicatedActor:
    return DedicatedActor(lambda: replace(WIRING), {}, "ses_1", 3, 1)


@pytest.mark.parametrize(("make", "ids"), [(host, {"host_id": "host-1"}), (dedicated, {"actor_id": "ses_1"})])
async def test_a_host_that_can_not_start_says_why_once(
    make: Any, ids: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its callers only learn that it does not answer, and the operator would wait for it without a reason."""

    def build_parts(settings: Settings, *_: Any) -> None:
        assert settings.redis_url == "redis://given"
        raise ModuleNotFoundError("No module named 'aiohttp'")

    asked: list[Role] = []

    async def ask_for_secrets(role: Role, node_id: str) -> Handout:
        asked.append(role)
        if len(asked) == 1:
            raise NoSecretsError  # The node's server is just starting.
        return Handout({"redis_url": "redis://given"})

    monkeypatch.setattr(ray_actors, "ask_for_secrets", ask_for_secrets)
    monkeypatch.setattr(ray_actors, "build_parts", build_parts)
    monkeypatch.setattr(ray_actors, "log_by", lambda *_, **__: None)
    actor = make()
    with capture_logs() as logged:
        for _ in range(2):
            with pytest.raises(ModuleNotFoundError):
                await actor.door()
    assert [(entry["event"], entry["error"]) for entry in logged] == [
        ("host_start_failed", "No module named 'aiohttp'"),
    ]
    assert ids.items() <= logged[0].items()
    assert set(asked) == {Role.HOST}


async def test_each_actor_starts_with_the_keys_of_its_role_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a real node and a real provider: a key that is missing shows at the start alone."""
    whole = Settings.model_validate(
        {
            "REDIS_URL": "redis://127.0.0.1:9",
            "LNBITS_URL": "http://127.0.0.1:9",
            "LNBITS_INVOICE_KEY": "invoice",
            "LNBITS_ADMIN_KEY": "admin",
            "ANTHROPIC_API_KEY": "provider",
            "MACAROON_ROOT_KEY": "5a" * 32,
        }
    )

    async def ask_for_secrets(role: Role, node_id: str) -> Handout:
        return handout_for(whole, role)

    monkeypatch.setattr(ray_actors, "ask_for_secrets", ask_for_secrets)
    monkeypatch.setattr(ray_actors, "log_by", lambda *_, **__: None)
    for runs in (ModelWatch, Oversight, SolvencyWatch, Treasury):
        monkeypatch.setattr(runs, "run", _for_ever)
    wiring = replace(WIRING, router=lambda _: cast(Any, None), treasury=lambda: cast(Any, object()))
    oracle = OracleActor(lambda: wiring, without_secrets(whole))
    await oracle.node()
    assert oracle._starting is not None
    await oracle._starting
    assert len(oracle._watching) == 1
    treasury = TreasuryActor(lambda: wiring, without_secrets(whole))
    assert await treasury.node() == "node"
    await cancel_and_wait(
        [*oracle._watching, *treasury._watching, treasury._running, oracle._metrics, treasury._metrics]
    )


async def _for_ever(_: Any) -> None:
    await asyncio.Event().wait()
