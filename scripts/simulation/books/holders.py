"""Books of narrowed credentials: what each may have, by the law of caveats alone, and what it has had.

Each caveat of a chain holds by itself, and a limit on spending for all that was derived from it together. Nothing here
comes from the program under test.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from ..patching import START_MS
from .prices import price_msat
from .sessions import Json, must

# A host's clock may be so far behind or ahead. Within these bounds it is unknown whether a caveat's end forbids
# something.
_BEHIND_MS: Final = 2_100
_AHEAD_MS: Final = 60_100
_LIMITS_MAX: Final = 8
_ACTIONS: Final = frozenset({"request", "read", "topup", "close", "llm"})


class Caveat(NamedTuple):
    """A caveat of a chain. `token`: the credential that it made, by which all that was derived from it is known."""

    token: str
    name: str
    value: str


@dataclass(frozen=True, slots=True)
class Credential:
    """A narrowed or whole macaroon, as its holder has it."""

    session_id: str
    token: str
    caveats: tuple[Caveat, ...] = ()

    def values(self, name: str) -> list[str]:
        """Return the values of all caveats of this name."""
        return [caveat.value for caveat in self.caveats if caveat.name == name]

    @property
    def limits(self) -> list[tuple[str, int]]:
        """Limits on all that is spent, in msat, each with the token of the credential that it made."""
        return [(caveat.token, int(caveat.value)) for caveat in self.caveats if caveat.name == "max_msat"]

    @property
    def at_once_msat(self) -> int | None:
        """Limit for one request in msat; None without one."""
        return min((int(value) for value in self.values("max_msat_per_request")), default=None)

    @property
    def end_ms(self) -> int | None:
        """Expiry time in ms, from which on the credential is worthless; None without one."""
        return min((int(value) * 1_000 for value in self.values("expires_at")), default=None)

    @property
    def spender(self) -> str | None:
        """Name of the spender in the ledger; None without one."""
        return "/".join(self.values("name")) or None

    @property
    def sound(self) -> bool:
        """Soundness: all caveats are known, and at most `_LIMITS_MAX` limits are narrower than all before them."""
        known = all(_known(caveat) for caveat in self.caveats)
        limits = [msat for _, msat in self.limits] if known else []
        narrower = [msat for at, msat in enumerate(limits) if all(msat < other for other in limits[:at])]
        return known and len(narrower) <= _LIMITS_MAX

    def is_above(self, other: Credential) -> bool:
        """Return whether the other credential is this one, or was derived from it."""
        return self.session_id == other.session_id and other.caveats[: len(self.caveats)] == self.caveats

    def does(self, action: str) -> bool:
        """Return whether each list of actions holds this action."""
        return all(action in [part.strip() for part in value.split(",")] for value in self.values("actions"))

    def allows(self, action: str, at_ms: int) -> bool:
        """Return whether the credential can be used for this action at that time."""
        return self.does(action) and (self.end_ms is None or at_ms < self.end_ms)


def _known(caveat: Caveat) -> bool:
    match caveat.name:
        case "actions":
            return _ACTIONS.issuperset(part.strip() for part in caveat.value.split(","))
        case "max_msat" | "max_msat_per_request" | "expires_at":
            return caveat.value.isdecimal()
    return caveat.name == "name"


@dataclass(frozen=True, slots=True)
class Asking:
    """A command that a holder sends. `least_msat`: what the smallest useful answer can cost."""

    by: Credential
    actions: tuple[str, ...]
    sent_ms: int
    least_msat: int = 0
    pays_msat: int | None = None
    """Amount that a payout may take with its reserve."""
    redirects: bool = False
    """Redirection of all that the session will ever owe, if the command is one."""


@dataclass(eq=False)
class HolderBook:
    """Book of all holders. Its checks raise `BrokenError` for what must not be.

    `strict`: no two hosts can have served an actor at once.
    """

    clock_s: Callable[[], float]
    strict: bool = True
    funded: set[str] = field(default_factory=set)
    """Sessions that have ever had money."""
    _asked: dict[str, tuple[Credential, str]] = field(default_factory=dict)
    _tops_up: defaultdict[tuple[str, str], list[Credential]] = field(default_factory=lambda: defaultdict(list))
    _closing: defaultdict[str, list[Credential]] = field(default_factory=lambda: defaultdict(list))
    _payees: dict[str, Credential] = field(default_factory=dict)
    _destinations: dict[str, Credential] = field(default_factory=dict)
    _whole_closes: dict[str, Callable[[], bool]] = field(default_factory=dict)
    _holds: dict[tuple[str, str], tuple[Credential, int]] = field(default_factory=dict)
    _used: defaultdict[str, list[tuple[int, int]]] = field(default_factory=lambda: defaultdict(lambda: [(0, 0)]))
    _epochs: defaultdict[str, set[int]] = field(default_factory=lambda: defaultdict(set))

    # Reports from holders, before they send anything

    def joins(self, session_id: str, whole_closes: Callable[[], bool]) -> None:
        """Register a session with holders. `whole_closes`: whether its owner closes it as well."""
        self._whole_closes[session_id] = whole_closes

    def asks(self, request_id: str, by: Credential, action: str) -> None:
        """Register a request, or a call."""
        self._asked[request_id] = by, action

    def tops_up(self, name: str, by: Credential) -> None:
        """Register the order of an invoice."""
        self._tops_up[by.session_id, name].append(by)

    def closes(self, by: Credential, payment_hash: str | None) -> None:
        """Register a closing, with the payment hash of the invoice for what is left, if there is one."""
        self._closing[by.session_id].append(by)
        if payment_hash is not None:
            self._payees[payment_hash] = by

    def names_destination(self, by: Credential, destination: str) -> None:
        """Register the naming of a destination of the session's refunds."""
        self._destinations[destination] = by

    # Reports from the store

    def wrote(self, session_id: str, epoch: int, event: Json) -> None:
        """Check an event of an actor against the credential behind it."""
        self._epochs[session_id].add(epoch)
        match event["type"]:
            case "deposited":
                self.funded.add(session_id)
            case "hold_placed":
                self._held(session_id, event["hold"], event["at_ms"])
            case "request_finished" | "hold_released":
                by, _ = self._holds.pop((session_id, event["name"]), (None, 0))
                if by is not None:
                    self._use(by, -event["released_msat"])
            case "top_up_requested":
                by_name = self._tops_up.get((session_id, event["once"]["name"]))
                allowed = by_name is None or any(by.allows("topup", event["at_ms"]) for by in by_name)
                must(allowed, "a top-up is ordered by a credential that forbids it")
            case "session_closed" if session_id in self._whole_closes:
                allowed = any(by.allows("close", event["at_ms"]) for by in self._closing[session_id])
                must(allowed or self._whole_closes[session_id](), "it is closed by a credential that forbids it")
            case "payout_started":
                payee = self._payees.get(event["target"]["payment_hash"])
                if payee is not None:
                    total = event["target"]["amount_msat"] + event["reserve_msat"]
                    must(payee.allows("close", event["at_ms"]), "it is paid out to a credential that forbids it")
                    must(_may_be_paid(payee, total), f"{total} msat are paid out to a credential beyond its limits")

            case "refund_destination_named":
                by = self._destinations.get(event["destination"])
                allowed = by is None or (by.allows("close", event["at_ms"]) and not _limited(by))
                must(allowed, "a credential redirects the money that forbids it")

    def _held(self, session_id: str, hold: Json, at_ms: int) -> None:
        found = self._asked.get(hold["request_id"])
        if found is None:
            return  # The request is the owner's, whose credential has no caveats.
        by, action = found
        amount, name = hold["amount_msat"], hold["once"]["name"]
        must(by.allows(action, at_ms), f"{name} is held for by a credential that forbids it")
        must(by.at_once_msat is None or amount <= by.at_once_msat, f"{amount} msat are held at once for {name}")
        must(hold.get("spender") == by.spender, f"{name} is held for in the name of {hold.get('spender')}")
        self._holds[session_id, name] = by, amount
        self._use(by, amount)

    def _use(self, by: Credential, msat: int) -> None:
        for token, limit in by.limits:
            used = self._used[token][-1][1] + msat
            self._used[token].append((self._now_ms(), used))
            must(0 <= used <= limit, f"{used} msat are used under a limit of {limit}")

    # Reports from holders, when they have an answer

    def told(self, request_id: str, to: Credential) -> None:
        """Check that the credential which has the answer to a request bought it, or is above the buyer's."""
        bought = self._asked.get(request_id)
        must(bought is not None and to.is_above(bought[0]), f"{request_id} is told to a credential that did not buy it")

    def granted(self, asking: Asking) -> None:
        """Check that a view was shown to a credential that allows it."""
        by = asking.by
        must(any(by.does(action) for action in asking.actions), "shown to a credential that forbids it")
        over = by.end_ms is not None and asking.sent_ms - _BEHIND_MS >= by.end_ms
        must(not over, "shown to a credential after its end")

    def refused(self, asking: Asking, code: str, digests: Collection[str] = ()) -> None:
        """Check a refusal. `digests`: those that this credential asked for under the same key."""
        must(code != "invalid_credential", "a credential of the session is refused as a foreign one")
        must(code != "idempotency_conflict" or len(digests) > 1, "another credential's key is a conflict")
        must(code != "caveat_violated" or self._forbids(asking), "a credential is refused what its caveats allow")

    def _forbids(self, asking: Asking) -> bool:
        by = asking.by
        if not any(by.does(action) for action in asking.actions):
            return True
        if by.end_ms is not None and self._now_ms() + _AHEAD_MS >= by.end_ms:
            return True
        if asking.redirects and _limited(by):
            return True
        if asking.pays_msat is not None:
            return not _may_be_paid(by, asking.pays_msat)
        if by.at_once_msat is not None and by.at_once_msat < asking.least_msat:
            return True
        # A host that lost the actor may answer from an old state of it.
        alone = self.strict and len(self._epochs[by.session_id]) <= 1
        since_ms = asking.sent_ms if alone else 0
        return any(limit - self._most_used(token, since_ms) < asking.least_msat for token, limit in by.limits)

    def _now_ms(self) -> int:
        return START_MS + int(self.clock_s() * 1_000)

    def _most_used(self, token: str, since_ms: int) -> int:
        used = self._used[token]
        before = [msat for at_ms, msat in used if at_ms <= since_ms]
        return max([*before[-1:], *(msat for at_ms, msat in used if at_ms > since_ms)])


def _limited(by: Credential) -> bool:
    """Return whether the credential has a limit on amounts or time."""
    return bool(by.limits or by.at_once_msat is not None or by.end_ms is not None)


def _may_be_paid(by: Credential, total_msat: int) -> bool:
    """Return whether the credential's holder may be paid out this total.

    A payout counts under no limit on all that is spent, so a credential with such a limit gets none.
    """
    return not by.limits and (by.at_once_msat is None or total_msat <= by.at_once_msat)


def least_of_ask(text: str, max_tokens: int | None) -> int:
    """Return the least cost of a useful answer to a request in msat.

    It includes evaluation, work and infrastructure, with a token for each byte.
    """
    judged, worked = len(text.encode()) + 2 + _JUDGING[0], len(text.encode()) + _WORKING
    return price_msat([(judged, _JUDGING[1])], (worked, min(_LEAST_TOKENS, max_tokens or _LEAST_TOKENS)))


def least_of_relay(prompt_tokens: int, max_tokens: int, least_tokens: int) -> int:
    """Return the least cost of a useful answer to a call in msat."""
    return price_msat([], (prompt_tokens, min(max(_LEAST_TOKENS, least_tokens), max_tokens)))


# These figures are those of `SESSION_TERMS`.
_JUDGING: Final = 300, 200
_WORKING: Final = 50
_LEAST_TOKENS: Final = 100
