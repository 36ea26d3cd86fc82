"""The free demo: one small question to the model. The journal holds none of it, because nothing is paid."""

from __future__ import annotations

from typing import Never

from .behaviour import NOTHING, Command, Decision, Done, Failed, Reply, Stateless
from .errors import model_failed, not_found
from .llm.answers import Completion
from .llm.intents import Work
from .provider_faults import ModelFault

_TOPIC = "answer"
_MAX_TOKENS = 300


class DemoAnswer(Reply, frozen=True, tag="demo"):
    """The model's answer."""

    result: str


class AskDemo(Command[DemoAnswer, Never], frozen=True, tag="ask_demo"):
    """A free request."""

    request: str


class DemoBehaviour(Stateless):
    """The behaviour of a demo actor, which has no state: it answers and is forgotten (see `Behaviour`)."""

    def __init__(self, model: str) -> None:
        self._model = model

    def decide(self, actor_id: str, state: None, command: Command, now_ms: int) -> Decision:
        """Decide what follows from the command."""
        match command:
            case AskDemo(request=request):
                ask = Work(key=_TOPIC, request=request, model=self._model, max_tokens=_MAX_TOKENS, unpaid=True)
                return Decision(wait_for=_TOPIC, intents=(ask,))
            case Done(result=Completion(text=text)):
                return Decision(answers={_TOPIC: DemoAnswer(text)})
            case Done():
                return NOTHING
            case Failed(permanent=permanent, retry_after_ms=retry_after_ms, fault=fault):
                passing = None if permanent else fault or ModelFault.UNREACHABLE
                return Decision(answers={_TOPIC: model_failed(passing, retry_after_ms)})
        return Decision(reply=not_found("demo"))
