"""Turns of a conversation as the messages of chat completions, in an order that chat templates take.

Templates fail on instructions between turns, on two turns of the same role, and on results that don't follow their
calls. So instructions come first, turns are joined, and results stand behind the turn with their calls.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from ..response.errors import invalid
from ..upstreams.chat_answer import SIGNED
from ..upstreams.reasoning_details import ReasoningDetails

Json = dict[str, Any]
_NO_CALL: Final = "No call before it has this id: send the call, too, or leave its result out"
_BETWEEN: Final = "\n\n"


class Thought(Protocol):
    """A thought that the model had, and the member of a message in which it stood, empty if it is not to go back."""

    @property
    def text(self) -> str:
        """The thought."""
        ...

    @property
    def field(self) -> str:
        """The name of the member."""
        ...

    @property
    def details(self) -> Sequence[Json]:
        """The details of the thought, which go back in its place."""
        ...

    @property
    def calls(self) -> Mapping[str, Json]:
        """The members that go back with the calls to which the thought led, by their ids."""
        ...


@dataclass
class _User:
    """A turn of the user."""

    parts: list[Json] = field(default_factory=list)


@dataclass
class _Assistant:
    """A turn of the model, with the results of its calls. `images` are in these, and no result can hold them."""

    texts: list[str] = field(default_factory=list)
    thoughts: list[Thought] = field(default_factory=list)
    calls: list[Json] = field(default_factory=list)
    results: list[Json] = field(default_factory=list)
    images: list[Json] = field(default_factory=list)


class Turns:
    """The turns of one conversation."""

    def __init__(self) -> None:
        self._instructions: list[str] = []
        self._turns: list[_User | _Assistant] = []
        # Thoughts that no text or call has followed yet. Alone they are not an answer.
        self._thoughts: list[Thought] = []
        self._signed: dict[str, Json] = {}

    def instruct(self, text: str) -> None:
        """Add instructions."""
        if text:
            self._instructions.append(text)

    def ask(self, parts: list[Json]) -> None:
        """Add parts of a message of the user."""
        if not parts:
            return
        self._thoughts = []
        if not self._turns or not isinstance(self._turns[-1], _User):
            self._turns.append(_User())
        last = self._turns[-1]
        assert isinstance(last, _User)
        last.parts += parts

    def say(self, text: str) -> None:
        """Add a text of the model."""
        if text:
            self._answer().texts.append(text)

    def think(self, thought: Thought) -> None:
        """Add a thought of the model, which may stand behind the calls to which it led."""
        self._thoughts.append(thought)
        turn = self._turns[-1] if self._turns else None
        made = turn.calls if isinstance(turn, _Assistant) and not turn.results else []
        for call_id, signed in thought.calls.items():
            call = next((call for call in made if call["id"] == call_id), None)
            if call is not None:
                call |= _signed(signed)
            else:
                self._signed[call_id] = signed

    def call(self, call_id: str, name: str, arguments: str) -> None:
        """Add a call that the model made. `arguments` are a JSON object."""
        function = {"name": name, "arguments": arguments}
        signed = _signed(self._signed.pop(call_id, {}))
        self._answer().calls.append({"id": call_id, "type": "function", "function": function, **signed})

    def result(self, call_id: str, parts: list[Json], path: str) -> None:
        """Add the result of a call. Raises `RefusedError` that names `path` if there is no such call."""
        turn = next(
            (
                turn
                for turn in reversed(self._turns)
                if isinstance(turn, _Assistant) and any(call["id"] == call_id for call in turn.calls)
            ),
            None,
        )
        if turn is None:
            raise invalid(path, _NO_CALL)
        if turn is self._turns[-1] and not turn.results:
            turn.thoughts += self._thoughts
            self._thoughts = []
        texts = [part["text"] for part in parts if part["type"] == "text"]
        images = [part for part in parts if part["type"] != "text"]
        if images:
            texts.append(f"({len(images)} image(s) of this result: see the next message of the user.)")
            turn.images += [{"type": "text", "text": f"Images of the result of the call {call_id}:"}, *images]
        turn.results.append({"role": "tool", "tool_call_id": call_id, "content": _BETWEEN.join(texts)})

    def messages(self, notes: list[str], path: str) -> list[Json]:
        """Return the messages. `notes` are more instructions. Raises `RefusedError` that names `path` without any.

        If there are instructions alone, the last ones are the user's message.
        """
        if not self._turns and self._instructions:
            self.ask([{"type": "text", "text": self._instructions.pop()}])
        if not self._turns:
            raise invalid(path, "At least one message of the user with a content is needed")
        made: list[Json] = []
        if texts := [*self._instructions, *notes]:
            made.append({"role": "system", "content": _BETWEEN.join(texts)})
        asked = max((number for number, turn in enumerate(self._turns) if isinstance(turn, _User)), default=-1)
        waiting: list[Json] = []
        for number, turn in enumerate(self._turns):
            if isinstance(turn, _User):
                made.append(_said([*waiting, *turn.parts]))
                waiting = []
                continue
            if waiting:
                made.append(_said(waiting))
            # Upstreams want back the thoughts that led to calls, until the user says more; some refuse older ones.
            made += _answered(turn, thinks=number > asked)
            waiting = turn.images
        return [*made, _said(waiting)] if waiting else made

    def _answer(self) -> _Assistant:
        """Return the turn of the model. Behind results another one begins."""
        last = self._turns[-1] if self._turns else None
        if not isinstance(last, _Assistant) or last.results:
            last = _Assistant()
            self._turns.append(last)
        last.thoughts += self._thoughts
        self._thoughts = []
        return last


def _said(parts: list[Json]) -> Json:
    """Return a message of the user: of text alone as a string, as some servers take nothing else."""
    texts = [part["text"] for part in parts if part["type"] == "text"]
    return {"role": "user", "content": _BETWEEN.join(texts) if len(texts) == len(parts) else parts}


def _answered(turn: _Assistant, *, thinks: bool) -> list[Json]:
    message: Json = {"role": "assistant", "content": _BETWEEN.join(turn.texts) or None}
    if turn.calls:
        message["tool_calls"] = turn.calls
        details = ReasoningDetails(detail for thought in turn.thoughts for detail in thought.details)
        if thinks and details:
            message["reasoning_details"] = details.taken()
        elif thinks and (name := next((thought.field for thought in turn.thoughts if thought.field), "")):
            message[name] = "".join(thought.text for thought in turn.thoughts)
    return [message, *turn.results]


def _signed(members: Json) -> Json:
    """Return the members of a call that its thought signed: no other name may get into a call."""
    return {name: members[name] for name in SIGNED if name in members}
