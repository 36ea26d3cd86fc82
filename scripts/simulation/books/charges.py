"""Charges as they must be, worked out a second time from the model's calls and their usage."""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Final

from .job_attempts import AttemptBook
from .jobs import JobAccount
from .sessions import Account, Json, SessionAccount, must

# At the price of a run, a dollar for a million tokens is a millisatoshi for each.
_INPUT_MSAT: Final = 2
_OUTPUT_MSAT: Final = 10
_INFRA_MSAT: Final = 500
_MARGIN: Final = (7, 5)
_PIECE: Final = re.compile(rb"\[(\d+)\.(\d+)\]")

Tokens = tuple[int, int]
"""Tokens read and written."""


@dataclass(slots=True)
class _Used:
    """Usage by the last calls for a request. None: the figures were unreadable."""

    evaluation: Tokens | None = None
    work: Tokens | None = None


@dataclass(eq=False)
class ModelBook:
    """Book of the model's calls. `asked`, `wrote` and `read` raise `BrokenError` for what does not fit."""

    calls: int = 0
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
            held = any(one in account.held_ever for one in _same_call(name))
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

    def wrote(self, account: Account, event: Json) -> None:
        """Check the charge in an event of an actor."""
        if isinstance(account, JobAccount):
            self._attempts[account.actor_id].take(event)
        match event["type"]:
            case "request_finished":
                self._request(account.actor_id, event)
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


def _same_call(name: str) -> list[str]:
    """Return the names of a call's attempts, up to this one.

    An attempt that joins an earlier one is answered under the hold of the earlier one. The part behind the last dot is
    the number of an attempt, or a credential's tag.
    """
    call, _, number = name.rpartition(".")
    return [f"{call}.{earlier}" for earlier in range(int(number) + 1)] if number.isdecimal() else [name]


def price_msat(judged: list[Tokens], worked: Tokens | None) -> int:
    """Return the price of these calls in msat, with the margin, and with infrastructure if work was done."""
    calls = [*judged, *([] if worked is None else [worked])]
    cost = sum(read * _INPUT_MSAT + written * _OUTPUT_MSAT for read, written in calls)
    over, under = _MARGIN
    return -(-(cost + (0 if worked is None else _INFRA_MSAT)) * over // under)
