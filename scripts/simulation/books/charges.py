"""Charges as they must be, worked out a second time from the model's calls and their usage."""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Final

from .job_attempts import AttemptBook
from .jobs import JobAccount
from .prices import Tokens, price_msat, same_call
from .sessions import Account, Json, SessionAccount, must
from .upstreams import UpstreamBook, UpstreamCall

_PIECE: Final = re.compile(rb"\[(\d+)\.(\d+)\]")


@dataclass(slots=True)
class _Used:
    """Usage by the last calls for a request. None: the figures were unreadable."""

    evaluation: Tokens | None = None
    work: Tokens | None = None


@dataclass(eq=False)
class ModelBook:
    """Book of the model's calls. `asked`, `wrote` and `read` raise `BrokenError` for what does not fit."""

    calls: int = 0
    upstreams: UpstreamBook | None = None
    """Book of the upstreams, where the model has several."""
    _used: defaultdict[str, _Used] = field(default_factory=lambda: defaultdict(_Used))
    _attempts: defaultdict[str, AttemptBook] = field(default_factory=lambda: defaultdict(AttemptBook))

    def asked(self, account: Account | None, name: str, work: bool) -> None:
        """Count a call of the model, and check that it is paid or held for."""
        self.calls += 1
        if isinstance(account, JobAccount):
            self._attempts[account.actor_id].asked()
            must(account.work_paid if work else account.eval_paid, "the model works before it is paid for")
            return
        must(isinstance(account, SessionAccount), "the model works for nobody")
        if isinstance(account, SessionAccount):
            held = any(one in account.held_ever for one in same_call(name))
            must(held, f"the model works for {name} before its hold is written")

    def used(self, label: str, work: bool, tokens: Tokens | None) -> None:
        """Record the tokens of a call that has ended; None: its figures were unreadable."""
        if work:
            self._used[label].work = tokens
        else:
            self._used[label].evaluation = tokens

    def came_to_nothing(self, label: str, away: bool) -> None:
        """Record a call that did not reach the model (`away`), or that the model refused for good."""
        book = self._attempts[label.partition("/")[0]]
        if away:
            book.away()
        else:
            book.refused()

    def unanswered(self, call: UpstreamCall, *, at_once: bool) -> None:
        """Record that a call was taken and not answered; see `AttemptBook.evaluated_in_vain`."""
        if not call.work:
            self._attempts[call.label].evaluated_in_vain(at_once=at_once)

    def may_be_free(self, event: Json) -> bool:
        """Return whether the answer of a request may cost nothing."""
        return self.upstreams is not None and self.upstreams.may_be_free(event)

    @property
    def gives_away(self) -> bool:
        """Return whether an answer without a usage costs nothing."""
        return self.upstreams is not None and self.upstreams.gives_away

    def wrote(self, account: Account, event: Json) -> None:
        """Check the charge in an event of an actor."""
        if isinstance(account, JobAccount):
            self._attempts[account.actor_id].take(event)
        match event["type"]:
            case "request_finished" if self.upstreams is not None:
                self.upstreams.request(account.actor_id, event)
            case "request_finished":
                self._request(account.actor_id, event)
            case "job_accepted" | "job_rejected" if self.upstreams is not None:
                self.upstreams.evaluation(account.actor_id, event["usage"])
            case "job_completed" if isinstance(account, JobAccount) and self.upstreams is not None:
                self.upstreams.work(account.actor_id, event, account.credited[account.work_hash])
            case "job_completed" if isinstance(account, JobAccount):
                used = self._used[account.actor_id].work
                if used is not None:
                    price = price_msat([], used)
                    due = min(price, account.credited[account.work_hash])
                    must(event["charged_msat"] == due, f"charged {event['charged_msat']} msat for {due} msat of work")

    def _request(self, actor_id: str, event: Json) -> None:
        used = self._used[f"{actor_id}/{event['name']}"]
        judged, worked = event["evaluation_usage"] is not None, event["work_usage"] is not None
        if event["ending"] not in {"complete", "rejected"}:
            return  # Only its host has seen what was used by then.
        if (judged and used.evaluation is None) or (worked and used.work is None):
            return
        due = price_msat([used.evaluation] if judged and used.evaluation else [], used.work if worked else None)
        must(event["debit_msat"] == due, f"{event['name']} is charged {event['debit_msat']} msat for {due} msat")

    def read(self, request_id: str, data: bytes) -> None:
        """Check a relayed stream that a client has read: all pieces must be of one call, without a gap."""
        pieces = [(int(call), int(number)) for call, number in _PIECE.findall(data)]
        must(len({call for call, _ in pieces}) <= 1, f"{request_id} is told as what several calls gave")
        numbers = [number for _, number in pieces]
        must(numbers == list(range(len(numbers))), f"{request_id} is told with the pieces {numbers}")


def piece(call: int, number: int) -> bytes:
    """Return the bytes that a call gives as its piece of this number."""
    return b"[%d.%d]" % (call, number)
