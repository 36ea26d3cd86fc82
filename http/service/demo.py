"""Route of the free demo: small questions, a few times an hour."""

from __future__ import annotations

from typing import Final

from pydantic import ValidationError
from starlette.requests import Request
from starlette.responses import Response

from ...actors.domain.demo import AskDemo, DemoAnswer
from ...actors.operator_terms import own_models
from ..payments.solvency_gate import refuse_calls
from ..request import ids
from ..request.body import unfit
from ..request.client_address import ClientAddresses
from ..response import errors, json
from ..response.replies import Replies
from ..response.slow_json import SlowAnswer
from ..state import AppState
from . import schemas as around

_WINDOW_S: Final = 3_600


class Demo:
    """GET /demo."""

    def __init__(self, state: AppState, clients: ClientAddresses) -> None:
        self._state = state
        self._clients = clients
        self._evaluator = own_models(state.settings)[0].name

    async def ask(self, request: Request) -> Response:
        """Answer GET /demo with the model's answer to `request`."""
        query = _query(request)
        if request.method == "HEAD":
            return json.head_only("application/json")
        await refuse_calls(self._state, self._evaluator)
        await self._count(request)
        replies: Replies[DemoAnswer] = Replies(
            request, self._state.router.open(ids.new_demo_id(), AskDemo(query.request))
        )
        ping_s = self._state.settings.ping_s
        if (reply := await replies.within(ping_s)) is None:
            return SlowAnswer(replies, lambda reply: json.encode(_shown(reply)), ping_s)
        await replies.aclose()
        return json.json_response(_shown(reply))

    async def _count(self, request: Request) -> None:
        settings = self._state.settings
        if not settings.rate_limits:
            return
        client = self._clients.digest(request)
        wait_s = await self._state.limits.hit("demo", client, settings.demo_per_hour, _WINDOW_S)
        if wait_s is not None:
            raise errors.rate_limited(
                f"The demo is free {settings.demo_per_hour} times an hour: try again in {wait_s} s, or buy a job.",
                wait_s,
            )


def _shown(reply: DemoAnswer) -> around.DemoResult:
    return around.DemoResult(result=reply.result)


def _query(request: Request) -> around.DemoQuery:
    asked = request.query_params.getlist("request")
    if len(asked) > 1:
        raise errors.invalid("request", "Must be there once")
    try:
        return around.DemoQuery.model_validate(dict(zip(["request"], asked, strict=False)))
    except ValidationError as error:
        raise unfit(error) from None
