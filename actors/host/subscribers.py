"""Callers that wait for what an actor will say: of a topic, once, or of its view, until the view is final."""

from __future__ import annotations

from collections.abc import Collection
from functools import partial
from typing import Any

from ..domain.behaviour import Behaviour, Reply
from ..domain.errors import Refusal, not_found
from .in_flight import InFlight
from .replies import AnyReply, ReplyTo


class Subscribers:
    """Callers of one actor that wait. The last one that leaves a topic ends its work, if work of that kind ends."""

    def __init__(self, in_flight: InFlight) -> None:
        self._in_flight = in_flight
        self._waiting: dict[str, list[ReplyTo]] = {}
        self._watchers: list[ReplyTo] = []

    def __bool__(self) -> bool:
        return bool(self._waiting or self._watchers)

    @property
    def topics(self) -> Collection[str]:
        """Topics that callers wait for."""
        return self._waiting

    def wait(self, topic: str, reply_to: ReplyTo) -> None:
        """Have the caller wait for a topic; send it at once what was said of the topic before."""
        self._in_flight.heard(topic)
        self._waiting.setdefault(topic, []).append(reply_to)
        for reply in self._in_flight.said(topic):
            reply_to.answer(reply, last=False)
        reply_to.on_cancel = partial(self._leave, topic)
        # The caller may have left while its command waited.
        self._leave(topic)

    def _leave(self, topic: str) -> None:
        callers = self._waiting.get(topic)
        if callers is not None and all(reply_to.cancelled for reply_to in callers):
            del self._waiting[topic]
            self._in_flight.unheard(topic)

    def say(self, topic: str, reply: Reply) -> None:
        """Send a reply to all that wait for the topic, with more to come."""
        for reply_to in self._waiting.get(topic, ()):
            reply_to.answer(reply, last=False)

    def answer(self, topic: str, reply: AnyReply) -> bool:
        """Answer all that wait for the topic; return whether any of them was still there."""
        callers = self._waiting.pop(topic, ())
        heard = any(not reply_to.cancelled for reply_to in callers)
        for reply_to in callers:
            reply_to.answer(reply)
        return heard

    def refuse(self, refusal: Refusal) -> None:
        """Refuse all that wait for a topic."""
        for reply_to in [reply_to for callers in self._waiting.values() for reply_to in callers]:
            reply_to.answer(refusal)
        self._waiting.clear()

    def watch(self, behaviour: Behaviour[Any], actor_id: str, state: Any, reply_to: ReplyTo) -> None:
        """Show the caller the present view, and each further one, until the view is final."""
        view = behaviour.view(actor_id, state)
        if view is None:
            reply_to.answer(not_found("view"))
            return
        final = behaviour.final(state)
        reply_to.answer(view, final)
        if not final:
            self._watchers.append(reply_to)

    def show(self, behaviour: Behaviour[Any], actor_id: str, state: Any) -> None:
        """Show the present view to all that watch; end them when it is final."""
        watchers = [reply_to for reply_to in self._watchers if not reply_to.cancelled]
        self._watchers = watchers
        if watchers and (view := behaviour.view(actor_id, state)) is not None:
            last = behaviour.final(state)
            self._watchers = [] if last else watchers
            for reply_to in watchers:
                reply_to.answer(view, last)

    def forget_cancelled(self) -> None:
        """Drop callers that no longer wait."""
        self._watchers = [reply_to for reply_to in self._watchers if not reply_to.cancelled]
        for topic in list(self._waiting):
            self._waiting[topic] = [reply_to for reply_to in self._waiting[topic] if not reply_to.cancelled]
            if not self._waiting[topic]:
                del self._waiting[topic]

    def end(self, watched: AnyReply, begun: AnyReply) -> None:
        """Answer all, because the actor is no longer here: those that watch, and those whose work had begun."""
        for reply_to in self._watchers:
            reply_to.answer(watched)
        for reply_to in [reply_to for callers in self._waiting.values() for reply_to in callers]:
            reply_to.answer(begun)
