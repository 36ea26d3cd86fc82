"""The operator is warned of upstreams that tell no usage, once a minute for each model."""

from __future__ import annotations

from contextlib import aclosing
from typing import Any

import pytest
from structlog.testing import capture_logs

from satmeter.actors.domain.llm.catalogue import Api, Catalogue
from satmeter.actors.effects.upstreams import Upstreams
from tests.helpers.chat_upstream import (
    BODY,
    DONE,
    STOP,
    WHOLE_STREAM,
    FakeHttp,
    Sent,
    answering,
    choice,
    chunk,
    message,
    provider,
    sse,
    streaming,
)
from tests.helpers.upstreams import entry, upstream

EVENT = "upstream_told_no_usage"
SILENT = sse(chunk(choice("x")), STOP, DONE)


class Scene:
    """Two models at one upstream, and the time."""

    def __init__(self, *replies: Any) -> None:
        self.now_s = 1_000.0
        left = list(replies)

        def reply(sent: Sent) -> Any:
            if sent.url.endswith("/input_tokens"):
                return answering(200, {"input_tokens": 27})
            return left.pop(0) if len(left) > 1 else left[0]

        catalogue = Catalogue((entry("one", "a"), entry("two", "a")), (upstream("a", Api.OPENAI),))
        self.model = Upstreams(catalogue, {"a": provider(FakeHttp(reply))}, "one", lambda: self.now_s)

    async def relay(self, model: str = "one", *, stream: bool = False) -> None:
        async with aclosing(self.model.relay(BODY, {}, model=model, beta=False, stream=stream)) as parts:
            async for _ in parts:
                pass


def told(logs: Any) -> list[tuple[str, str, str, str]]:
    return [(e["log_level"], e["upstream"], e["model"], e["charged_by"]) for e in logs if e["event"] == EVENT]


async def test_it_is_told_once_a_minute_for_each_model() -> None:
    scene = Scene(answering(200, message(usage=None)))
    with capture_logs() as logs:
        for after_s, model in ((0, "one"), (59, "one"), (0, "two"), (1, "one"), (1, "one")):
            scene.now_s += after_s
            await scene.relay(model)
    assert told(logs) == [("warning", "a", model, "estimate") for model in ("one", "two", "one")]


@pytest.mark.parametrize("kind", ["relay", "stream", "complete"])
async def test_every_kind_of_call_is_watched(kind: str) -> None:
    scene = Scene(streaming(SILENT))
    with capture_logs() as logs:
        if kind == "relay":
            await scene.relay(stream=True)
        elif kind == "complete":
            await scene.model.complete("say x", model="one", max_tokens=9)
        else:
            async with aclosing(scene.model.stream("say x", model="one", max_tokens=9)) as parts:
                assert [part async for part in parts]
    assert told(logs) == [("warning", "a", "one", "estimate")]


async def test_nothing_is_told_of_a_usage_a_count_a_refusal_or_an_answer_that_was_left() -> None:
    scene = Scene(streaming(sse(*WHOLE_STREAM)), answering(400, {"error": {"message": "no"}}), streaming(SILENT))
    with capture_logs() as logs:
        await scene.relay(stream=True)
        await scene.relay()
        end = await scene.model.count_tokens(BODY, {}, model="one", beta=False)
        async with aclosing(scene.model.relay(BODY, {}, model="one", beta=False, stream=True)) as parts:
            await anext(parts)
    assert end.counted == 27 and told(logs) == []
