"""The requests of a session, for a state machine: those that are evaluated, and those that are relayed."""

from __future__ import annotations

from decimal import Decimal

from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from satmeter.actors.domain.credentials.caveats import Action
from satmeter.actors.domain.credentials.periods import Period
from satmeter.actors.domain.errors import Refusal
from satmeter.actors.domain.llm.answers import Completion, Ending, RequestOutcome, Step, Unanswered
from satmeter.actors.domain.llm.intents import AnswerRequest, RelayRequest
from satmeter.actors.domain.llm.relays import PromptRate, RelayOutcome
from satmeter.actors.domain.pricing import BtcPrice, PriceOrigin, Usage
from satmeter.actors.domain.session.messages import Ask, CheckPayment, Relay, Relayed, RequestAnswer
from tests.helpers.fakes import JSON_HEADERS
from tests.helpers.jobs import START_MS
from tests.helpers.relays import relay
from tests.helpers.sessions import FULL, ask, evaluation, grant
from tests.property.session_machine.model import (
    HOURLY,
    Counts,
    Held,
    Limits,
    Wanted,
    charge,
    wanted_call,
    wanted_request,
)
from tests.property.session_machine.world import SessionWorld, counts, limits, names, picks, seldom


def spend_limits(narrowed: Limits) -> list[tuple[str, int] | tuple[str, int, Period]]:
    """The spend limits of this credential."""
    return [(name, msat, Period.HOUR) if name == HOURLY else (name, msat) for name, msat in narrowed.totals.items()]


class AskingWorld(SessionWorld):
    """Requests in the world around a session."""

    @precondition(lambda self: self.worth_asking)
    @rule(
        name=names,
        request=st.sampled_from(["hi", 'say "hello"\n', "héllo ☃" * 40]),
        max_tokens=st.sampled_from([None, 1, 50, 100, 101, 700, 3_000, 9_999]),
        digest=st.sampled_from(["x", "x", "x", "y"]),
        narrowed=limits,
        keyed=st.booleans(),
        btc_usd=st.sampled_from([100_000, 37_777]),
    )
    def asks(
        self,
        name: str,
        request: str,
        max_tokens: int | None,
        digest: str,
        narrowed: Limits,
        keyed: bool,
        btc_usd: int,
    ) -> None:
        by = grant(
            *spend_limits(narrowed),
            per_request=narrowed.per_request,
            expires_at_s=START_MS // 1_000 - 1 if narrowed.expired else None,
            actions=frozenset({Action.READ}) if narrowed.forbidden else None,
            spender="-".join(narrowed.totals) or None,
        )
        # A client that chose no key has a new name for each request.
        name = name if keyed else f"{name}{len(self.asked)}"
        price = BtcPrice(Decimal(btc_usd), PriceOrigin.COINGECKO, START_MS)
        command = ask(name, request, digest=digest, keyed=keyed, max_tokens=max_tokens, by=by, btc_price=price)
        wanted = wanted_request(request, max_tokens, btc_usd)
        self.asked.append((command, wanted, narrowed))
        self._ask(command, wanted, narrowed, resent=False)

    @precondition(lambda self: self.worth_asking)
    @rule(
        name=names,
        max_tokens=st.sampled_from([0, 1, 100, 700, 3_000, 20_000]),
        tokens=st.sampled_from([0, 50, 1_000, 9_000]),
        rate=st.sampled_from(PromptRate),
        least=st.sampled_from([0, 0, 64, 600]),
        digest=st.sampled_from(["x", "x", "x", "y"]),
        narrowed=limits,
        keyed=st.booleans(),
        btc_usd=st.sampled_from([100_000, 37_777]),
    )
    def relays(
        self,
        name: str,
        max_tokens: int,
        tokens: int,
        rate: PromptRate,
        least: int,
        digest: str,
        narrowed: Limits,
        keyed: bool,
        btc_usd: int,
    ) -> None:
        by = grant(
            *spend_limits(narrowed),
            per_request=narrowed.per_request,
            expires_at_s=START_MS // 1_000 - 1 if narrowed.expired else None,
            actions=frozenset({Action.REQUEST}) if narrowed.forbidden else None,
            spender="-".join(narrowed.totals) or None,
        )
        name = name if keyed else f"{name}{len(self.asked)}"
        command = relay(
            name,
            max_tokens,
            tokens=tokens,
            rate=rate,
            least=least,
            digest=digest,
            keyed=keyed,
            by=by,
            btc_price=BtcPrice(Decimal(btc_usd), PriceOrigin.COINGECKO, START_MS),
        )
        wanted = wanted_call(tokens, rate, max_tokens, least, btc_usd)
        self.asked.append((command, wanted, narrowed))
        self._ask(command, wanted, narrowed, resent=False)

    @precondition(lambda self: self.asked and self.worth_asking)
    @rule(pick=picks)
    def asks_again(self, pick: int) -> None:
        command, wanted, narrowed = self.asked[pick % len(self.asked)]
        self._ask(command, wanted, narrowed, resent=True)

    def _ask(self, command: Ask | Relay, wanted: Wanted, narrowed: Limits, *, resent: bool) -> None:
        account, name, digest = self.account, command.once.name, command.once.digest
        held = account.held.get(name)
        btc_usd = int(command.btc_price.usd)
        decision = self.bench.send(command, resent=resent)
        if self.kept(name, digest, decision):
            return
        if held is not None:
            assert decision.events == ()
            assert decision.wait_for if held.digest == digest else self.code(decision) == "idempotency_conflict"
            return
        code, length, amount = account.judge(wanted, narrowed, self.bench.now_ms)
        assert self.code(decision) == code
        if code:
            self.refused += 1
            if code == "insufficient_balance":
                assert isinstance(decision.reply, Refusal)
                assert decision.reply.details == {"requiredMsat": length, "balanceMsat": account.balance}
            return
        (intent,) = decision.intents
        assert isinstance(intent, AnswerRequest | RelayRequest)
        assert decision.wait_for == intent.key in self.bench.running and intent.max_tokens == length
        if isinstance(intent, RelayRequest):
            assert intent.body.lowered(length) == b'{"max_tokens":%d,"text":"hello"}' % length
        now_ms = self.bench.now_ms
        account.hold(name, Held(amount, length, digest, btc_usd, tuple(narrowed.counts(now_ms))), narrowed, now_ms)

    @precondition(lambda self: self.running(AnswerRequest))
    @rule(
        pick=picks,
        ending=st.sampled_from(Ending),
        judged=st.none() | counts,
        worked=st.none() | counts,
        unreadable=st.sampled_from([False] * 4 + [True]),
        sent=st.none() | st.sampled_from([0, 7, 1_000, 10**9]),
    )
    def request_ends(
        self,
        pick: int,
        ending: Ending,
        judged: Counts | None,
        worked: Counts | None,
        unreadable: bool,
        sent: int | None,
    ) -> None:
        requests = self.running(AnswerRequest)
        key = requests[pick % len(requests)].key
        name = key.removeprefix("request:")
        hold = self.account.held[name]
        worked = None if ending is Ending.REJECTED else worked
        of_judge = None if judged is None else evaluation(None if unreadable else Usage(*judged))
        of_work = Usage(*worked) if worked and not unreadable else None
        completion = None if worked is None else Completion("answer", "sonnet", of_work, "end_turn")
        unanswered = None
        if ending is Ending.LEFT and sent is not None and completion is None and not unreadable:
            # What was under way when its client left costs its prompt.
            unanswered = Unanswered(Step.WORK if judged else Step.EVALUATION, sent)
            judged, worked = (judged, (sent, 0, 0, 0, 0)) if judged else ((sent, 0, 0, 0, 0), None)
        outcome = RequestOutcome(ending, of_judge, completion, unanswered)
        (reply,) = self.bench.finish(key, outcome).answers.values()
        assert isinstance(reply, RequestAnswer)
        debit = reply.cost.debit_msat.value
        if not unreadable:
            assert debit == min(charge(judged, worked, hold.btc_usd), hold.amount)
        elif judged or worked:
            assert 0 < debit <= hold.amount
        self.account.end_request(name, debit)
        assert (reply.balance_msat.value, reply.max_tokens) == (self.account.balance, hold.max_tokens)
        self.answers[name] = hold.digest, reply

    @precondition(lambda self: self.running(RelayRequest))
    @rule(
        pick=picks,
        ending=st.sampled_from([Ending.COMPLETE, Ending.BROKEN, Ending.LEFT]),
        used=st.none() | counts,
        unreadable=seldom,
        refused=seldom,
    )
    def call_ends(self, pick: int, ending: Ending, used: Counts | None, unreadable: bool, refused: bool) -> None:
        calls = self.running(RelayRequest)
        key = calls[pick % len(calls)].key
        name = key.removeprefix("request:")
        hold = self.account.held[name]
        charged = used is not None and not refused
        usage = Usage(*used) if used is not None and charged and not unreadable else None
        status = 400 if refused else 200
        outcome = RelayOutcome(ending, False, status, JSON_HEADERS, b"answer", charged, usage, 9)
        (reply,) = self.bench.finish(key, outcome).answers.values()
        assert isinstance(reply, Relayed) and reply.status == status
        debit = reply.cost.debit_msat.value
        if not charged:
            assert debit == 0
        elif usage is not None:
            assert debit == min(charge(None, used, hold.btc_usd), hold.amount)
        else:
            assert 0 < debit <= hold.amount
        self.account.end_request(name, debit)
        assert (reply.balance_msat.value, reply.max_tokens) == (self.account.balance, hold.max_tokens)
        if not refused:
            self.answers[name] = hold.digest, reply

    @precondition(lambda self: self.account.state == "awaiting_payment")
    @rule()
    def payment_is_checked(self) -> None:
        decision = self.bench.send(CheckPayment(FULL))
        assert decision.events == () and decision.wait_for in self.bench.running

    @precondition(lambda self: self.running(AnswerRequest) or self.running(RelayRequest))
    @rule(pick=picks, permanent=st.booleans())
    def request_fails(self, pick: int, permanent: bool) -> None:
        requests = self.running(AnswerRequest) + self.running(RelayRequest)
        key = requests[pick % len(requests)].key
        (reply,) = self.bench.fail(key, permanent=permanent).answers.values()
        assert isinstance(reply, Refusal) and reply.code == "model_failed"
        self.account.end_request(key.removeprefix("request:"), 0)
