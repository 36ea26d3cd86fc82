"""An effect that fails names the job or session that it is of."""

from __future__ import annotations

from typing import Any

import pytest
from structlog.testing import capture_logs

from satmeter.actors.domain.behaviour import Failed, Once
from satmeter.actors.domain.llm.intents import AnswerRequest
from satmeter.actors.domain.payments.intents import LookUpInvoice
from satmeter.actors.domain.provider_faults import ModelFault
from satmeter.actors.effects.executor import Effects
from satmeter.actors.effects.progress import ProgressChannel
from satmeter.actors.ports import ModelError, PermanentError, TransientError


@pytest.mark.parametrize(
    ("error", "event", "permanent"),
    [
        (TransientError("away"), "effect_failed", False),
        (PermanentError("refused"), "effect_failed", True),
        (KeyError("a defect"), "effect_broke", False),
    ],
    ids=lambda value: type(value).__name__,
)
async def test_an_effect_that_fails_names_its_actor(
    error: Exception, event: str, permanent: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*_: Any) -> None:
        raise error

    monkeypatch.setattr(Effects, "_result", fail)
    parts: Any = [None] * 7
    effects = Effects(*parts)
    with capture_logs() as logged:
        outcome = await effects.run(LookUpInvoice(key="look-up", payment_hash="ab" * 32), None, actor_id="ses_1")  # type: ignore[arg-type]
    assert isinstance(outcome, Failed) and outcome.permanent is permanent
    (entry,) = logged
    found = {name: entry[name] for name in ("event", "actor_id", "intent", "key")}
    assert found == {"event": event, "actor_id": "ses_1", "intent": "LookUpInvoice", "key": "look-up"}


class _Away:
    """A model that is not there."""

    def __getattr__(self, name: str) -> Any:
        async def fail(*_: Any, **__: Any) -> None:
            raise ModelError("away", ModelFault.UNREACHABLE)

        return fail


async def test_what_is_said_of_a_request_on_its_way_names_it_too() -> None:
    async def no_pause(_: float) -> None:
        pass

    parts: Any = [None, _Away(), *[None] * 5]
    effects = Effects(*parts, pause=no_pause)
    asked = AnswerRequest("request:x", "hello", "m", 100, stream=False, once=Once("x", "", keyed=False))
    with capture_logs() as logged:
        await effects.run(asked, ProgressChannel(lambda _: None), actor_id="ses_1")
    assert [entry["event"] for entry in logged] == ["model_call_repeated", "model_call_repeated", "effect_failed"]
    assert {(entry["actor_id"], entry["key"]) for entry in logged} == {("ses_1", "request:x")}
