"""Ray actors, as plain objects in this process."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

import pytest
from structlog.testing import capture_logs

from satmeter.actors import ray_actors
from satmeter.actors.ray_actors import DedicatedActor, HostActor, Wiring
from satmeter.config.held_secrets import Handout, Role
from satmeter.config.secret_socket import NoSecretsError
from satmeter.config.settings import Settings

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

    def build_parts(settings: Settings, treasury: Any) -> None:
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
    monkeypatch.setattr(ray_actors, "configure_logging", lambda _: None)
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
