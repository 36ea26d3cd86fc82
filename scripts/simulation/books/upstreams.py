"""Books of a run's upstreams: which calls each of them has taken, and what it bills for them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from weakref import WeakKeyDictionary

from .prices import Tokens, price_msat, same_call
from .sessions import Json, must

_UPPER_BOUNDS: Final = frozenset({"bound", "count"})


@dataclass(eq=False, slots=True)
class UpstreamCall:
    """A call that an upstream has taken. `billed`: the tokens in its bill.

    `told`: the answer came to its end, with figures that can be read. `prompt_told`: those of the prompt came before.
    """

    number: int
    upstream: str
    label: str
    work: bool
    billed: Tokens = (0, 0)
    told: bool = False
    prompt_told: bool = False

    @property
    def call_id(self) -> str:
        """Id by which the upstream names the call in its answer."""
        return f"call-{self.number}"


class UpstreamBook:
    """Book of the upstreams. All but `take` raise `BrokenError` for what does not fit.

    `rule`: what an answer without a usage costs.
    """

    def __init__(self, rule: str | None) -> None:
        self._rule = rule
        self._calls: dict[str, UpstreamCall] = {}
        self._taken: WeakKeyDictionary[Any, set[bool]] = WeakKeyDictionary()

    def asked(self, effect: object, label: str, work: bool, *, left: bool) -> None:
        """Check that an upstream may be asked. `effect` stands for one attempt; `left`: its client has left by now."""
        must(not left, f"{label} is sent to an upstream for a client that has left")
        taken = work in self._taken.get(effect, ())
        must(not taken, f"{label} is sent once more though an upstream has taken it, and may bill it")

    def take(self, effect: object, upstream: str, label: str, work: bool) -> UpstreamCall:
        """Record a call that an upstream has taken, and may bill from now on."""
        call = UpstreamCall(len(self._calls), upstream, label, work)
        self._calls[call.call_id] = call
        self._taken.setdefault(effect, set()).add(work)
        return call

    def request(self, actor_id: str, event: Json) -> None:
        """Hold the charge of a session's request to the bills of the upstreams."""
        receipt: Json = event["receipt"] or {}
        judged = self._call(receipt.get("evaluation_reported"), actor_id, event["name"], work=False)
        worked = self._call(receipt.get("work_reported"), actor_id, event["name"], work=True)
        for name, call in (("evaluation_usage", judged), ("work_usage", worked)):
            known = call is not None or event[name] is None or event["ending"] == "left"
            must(known, f"{event['name']} is charged a call that no upstream has taken")
        charged, held = event["debit_msat"], event["debit_msat"] + event["released_msat"]
        parts = {call.work: call.billed for call in (judged, worked) if call is not None and self._counts(call)}
        if event["ending"] in {"complete", "rejected"}:
            exact = all(call is None or call.told or self._free(call) for call in (judged, worked))
        else:
            # What was given until then is estimated. The prompt is not, where the upstream has told it.
            exact = False
            if worked is not None:
                parts.pop(True, None)
                parts |= {True: (worked.billed[0], 0)} if worked.prompt_told else {}
        least = min(held, price_msat([parts[False]] if False in parts else [], parts.get(True)))
        if exact:
            must(charged == least, f"{event['name']} is charged {charged} msat, and the upstreams' bills say {least}")
        else:
            must(charged >= least, f"{event['name']} is charged {charged} msat for bills of {least} msat")

    def work(self, actor_id: str, event: Json, paid_msat: int) -> None:
        """Hold the charge of a job's work to the bill of its upstream."""
        call = self._call(event["reported"], actor_id, None, work=True)
        must(call is not None, "work is charged that no upstream has done")
        if call is None:
            return
        charged, due = event["charged_msat"], price_msat([], call.billed) if self._counts(call) else 0
        fits = charged == min(due, paid_msat) if call.told or self._free(call) else charged >= min(due, paid_msat)
        must(fits, f"charged {charged} msat of {paid_msat} for work that the upstream bills with {due}")

    def evaluation(self, actor_id: str, usage: Json | None) -> None:
        """Check that the figures of a job's evaluation are those of an upstream that has judged it."""
        judged = [call for call in self._calls.values() if (call.label, call.work) == (actor_id, False)]
        found = None if usage is None else (usage.get("input_tokens"), usage.get("output_tokens"))
        fits = any(call.billed == found if found else not call.told for call in judged)
        must(fits, f"no upstream bills the evaluation with {found}")

    def may_be_free(self, event: Json) -> bool:
        """Return whether the answer of a request may cost nothing, as its figures were unreadable."""
        found = self._calls.get(((event["receipt"] or {}).get("work_reported") or {}).get("provider_id", ""))
        return found is not None and self._free(found)

    @property
    def gives_away(self) -> bool:
        """Return whether an answer without a usage costs nothing."""
        return self._rule == "nothing"

    def _free(self, call: UpstreamCall) -> bool:
        return not call.told and self.gives_away

    def _counts(self, call: UpstreamCall) -> bool:
        """Return whether the bill of a call bounds its charge from below: an estimate may be too low."""
        return call.told or self._rule in _UPPER_BOUNDS

    def _call(
        self, told: Mapping[str, Any] | None, actor_id: str, name: str | None, *, work: bool
    ) -> UpstreamCall | None:
        """Return the call that a receipt names, which must be one of this request or job."""
        if told is None or "provider_id" not in told:
            return None
        call = self._calls.get(told["provider_id"])
        must(call is not None, f"a receipt names {told['provider_id']}, which no upstream has taken")
        if call is None:
            return None
        must(
            call.upstream == told.get("upstream"),
            f"{call.call_id} of {call.upstream} counts as {told.get('upstream')}'s",
        )
        of_actor, _, of_name = call.label.partition("/")
        same = of_actor == actor_id and (name is None or name in same_call(of_name)) and call.work is work
        must(same, f"{call.call_id} was made for {call.label}, and is charged to {actor_id}/{name}")
        return call
