"""Requests of a session: the hold before any model call, and the debit after it."""

from __future__ import annotations

from hashlib import sha256
from typing import Final, NamedTuple

from msgspec.structs import replace

from .. import idempotency_keys
from ..behaviour import NOTHING, Decision, Done, Failed, Intent, Mark
from ..credentials.caveats import Action
from ..errors import Code, Refusal, idempotency_conflict, model_failed
from ..llm.answers import Ending, Held, RequestOutcome
from ..llm.billing_alarms import billing_alarms
from ..llm.intents import AnswerRequest, RelayRequest
from ..llm.relays import RelayOutcome
from ..money import ZERO, Msat
from ..pricing import Usage, tariff_of
from ..receipts import ReceiptNote, Reports, note
from . import former_keys
from .evolve import place
from .messages import Ask, Relay, Relayed, RequestAnswer, RequestCost
from .pricing import (
    SessionTerms,
    Worst,
    actual_cost,
    estimate,
    evaluation_usage,
    hold_alarms,
    relay_usage,
    work_usage,
    worst_of_ask,
    worst_of_relay,
)
from .spending import beyond_caveats, counting_now, left_by_caveats, limits_of, renewed, too_many_limits
from .state import Hold, HoldPlaced, HoldReleased, RequestFinished, Session, SessionState

_PREFIX: Final = "request:"
_DECLINED: Final = "The model declined this request without an answer; only its evaluation is charged."
UNPAID: Final = Refusal(Code.PAYMENT_REQUIRED, "The deposit has not been paid yet: pay its invoice.")
CLOSED: Final = Refusal(Code.CLOSED, "The session is closed: open another one.")
EXPIRED: Final = Refusal(
    Code.EXPIRED, "The session has expired: close it to get back what is left, and open another one."
)


def ask(terms: SessionTerms, session: Session, command: Ask | Relay, now_ms: int) -> Decision:
    """Place a hold over the worst case and have the request answered, or refuse it."""
    begun = idempotency_keys.begun(session.holds, command.once) or former_keys.begun(session, command)
    if begun is not None:
        same = begun.once.digest == command.once.digest
        return _answering(terms, command, begun) if same else Decision(reply=idempotency_conflict())
    session = renewed(session, now_ms)
    unspendable = not_spendable(session, now_ms)
    # `refused` goes before a missing payment, so that no client pays for a request that can't be answered. It goes
    # after a session's end, because waiting would not help that client.
    refused = command.refused if unspendable is None or unspendable.code is Code.PAYMENT_REQUIRED else None
    refusal = (
        command.grant.refusal(Action.LLM if isinstance(command, Relay) else Action.REQUEST, now_ms)
        or refused
        or unspendable
        or _unfit(terms, command)
        or too_many_limits(session, command.grant)
    )
    if refusal is not None:
        return Decision(reply=refusal)
    placed = _hold(terms, session, command, now_ms)
    if isinstance(placed, Refusal):
        return Decision(reply=placed)
    after, event = place(session, HoldPlaced(now_ms, hold=placed))
    intents = _answering(terms, command, placed).intents
    return Decision((event,), wait_for=_topic(placed), intents=intents, after=after)


def _answering(terms: SessionTerms, command: Ask | Relay, hold: Hold) -> Decision:
    """Let the caller wait for the answer, and start the model call unless it runs.

    It may not run although there is a hold, if the hold's write was not confirmed. The intent is made from the command,
    because only the command holds the request: no journal keeps it.
    """
    topic = _topic(hold)
    # Callers that did not ask for it don't get it. One that joins later may have asked.
    held = Held(hold.max_tokens, hold.at_ms)
    intent: Intent
    if isinstance(command, Relay):
        intent = RelayRequest(
            topic,
            command.body,
            command.headers,
            command.beta,
            command.stream,
            hold.model,
            hold.max_tokens,
            hold.at_ms,
            hold.once,
            command.billed_as,
            command.attempt,
            command.prompt_tokens,
            held,
            _bound(terms, command, hold),
            command.web_searches,
        )
    else:
        intent = AnswerRequest(
            topic, command.request, hold.model, hold.max_tokens, command.stream, hold.once, command.attempt, held
        )
    return Decision(wait_for=topic, intents=(intent,))


def _bound(terms: SessionTerms, command: Relay, hold: Hold) -> Usage | None:
    """Return the worst case of a call whose usage may be charged by it."""
    price = terms.terms.models.get(command.model)
    by_bound = price is not None and price.missing_usage is not None
    return worst_of_relay(terms, command).usage(hold.max_tokens) if by_bound else None


def not_spendable(session: Session, now_ms: int) -> Refusal | None:
    """Return why nothing can be spent from the session now, or None."""
    match session.state:
        case SessionState.AWAITING_PAYMENT:
            return UNPAID
        case SessionState.CLOSED:
            return CLOSED
        case SessionState.ACTIVE if now_ms < session.expires_at_ms:
            return None
    return EXPIRED


def _unfit(terms: SessionTerms, command: Ask | Relay) -> Refusal | None:
    if command.model in terms.terms.models:
        return None
    # Not in a code of its own: a front of an earlier version can't read that, and would drop the connection with all
    # its calls. Fronts know the models, too, and tell the client.
    message = "There is no such model; GET /pricing lists those that exist"
    return Refusal(Code.INVALID_REQUEST, f"{message}.", {"fields": [{"path": "model", "message": message}]})


class Wanted(NamedTuple):
    """The worst case of a request, the limit of its answer, and the smallest limit at which it is of use."""

    worst: Worst
    max_tokens: int
    least_tokens: int
    estimate: Usage


def wanted(terms: SessionTerms, command: Ask | Relay) -> Wanted:
    """Return the terms of this request's hold. The client's `max_tokens` counts as far as the operator allows it."""
    if isinstance(command, Relay):
        max_tokens = command.body.max_tokens
        least = max(terms.least_tokens, command.least_tokens)
        # With searches the bound is the model's whole context several times.
        bound = min(len(command.body.data), command.prompt_tokens_max)
        estimated = estimate(bound if command.web_searches else command.prompt_tokens_max)
        if command.prompt_tokens is not None:
            estimated = replace(estimated, input_tokens=command.prompt_tokens)
        return Wanted(worst_of_relay(terms, command), max_tokens, min(least, max_tokens), estimated)
    max_tokens = min(command.max_tokens or terms.default_tokens, terms.most_tokens)
    least = min(terms.least_tokens, max_tokens)
    return Wanted(worst_of_ask(terms, command), max_tokens, least, estimate(len(command.request.encode())))


def _hold(terms: SessionTerms, session: Session, command: Ask | Relay, now_ms: int) -> Hold | Refusal:
    worst, max_tokens, least, estimated = wanted(terms, command)
    amount_msat, balance = worst.msat(max_tokens), session.books.balance
    left = list(left_by_caveats(session, command.grant, now_ms))
    allowed = min([balance, *(each.amount_msat for each in left)])
    if amount_msat > allowed:
        required = worst.msat(least)
        beyond = beyond_caveats(left, required, now_ms)
        if beyond is not None:
            return beyond
        if required > balance:
            return _insufficient(required, balance)
        max_tokens = worst.longest(allowed, least, max_tokens)
        amount_msat = worst.msat(max_tokens)
    limits = limits_of(command.grant)
    return Hold(
        once=command.once,
        request_id=command.request_id,
        amount_msat=amount_msat,
        model=command.model,
        max_tokens=max_tokens,
        btc_price=command.btc_price,
        estimate=estimated,
        at_ms=now_ms,
        counters=tuple(limit.counter for limit in limits),
        spender=command.grant.spender or command.spender,
        nested=bool(command.grant.spend_limits),
        limits=tuple(counting_now(session, limit, now_ms) for limit in limits),
    )


def _insufficient(required: Msat, balance: Msat) -> Refusal:
    message = (
        f"The balance is {balance.value} msat, and the smallest useful answer can cost {required.value}: top up, or "
        "wait for requests that are under way, which hold more than they will cost."
    )
    details = {"requiredMsat": required.value, "balanceMsat": balance.value}
    return Refusal(Code.INSUFFICIENT_BALANCE, message, details)


def ended(terms: SessionTerms, session: Session, command: Done | Failed, now_ms: int) -> Decision:
    """Charge the usage of a request and release the rest of its hold; all of it, if the model gave nothing."""
    hold = session.holds.get(command.intent.key.removeprefix(_PREFIX))
    if hold is None:
        return NOTHING
    if isinstance(command, Failed):
        refusal = model_failed(command.fault, command.retry_after_ms)
        after, release = place(session, released(session, hold, now_ms))
        return Decision((release,), answers={_topic(hold): refusal}, after=after)
    if isinstance(command.result, RelayOutcome):
        assert isinstance(command.intent, RelayRequest)
        return _relay_ended(terms, session, hold, command.intent, command.result, now_ms)
    outcome = command.result
    assert isinstance(outcome, RequestOutcome) and isinstance(command.intent, AnswerRequest)
    request = command.intent.request
    evaluation = evaluation_usage(terms, hold, request, outcome)
    work = work_usage(terms, hold, request, outcome)
    cost = actual_cost(terms, hold, evaluation, work)
    completion = outcome.completion
    rejected = outcome.evaluation if outcome.ending is Ending.REJECTED else None
    reason = None if rejected is None else _DECLINED if outcome.declined else rejected.verdict.reason
    answered = reason or (completion.text if completion else "")
    tariff = tariff_of(terms.terms, hold.model, terms.eval_model if evaluation else None)
    judged = outcome.evaluation
    reports = Reports(judged.reported if judged else None, completion.reported if completion else None)
    receipt = note(session.tariffs, tariff, sha256(request.encode()).digest(), answered.encode(), reports)
    after, event = _finished(session, hold, cost, outcome.ending, evaluation, work, receipt, now_ms)
    answer = RequestAnswer(
        request_id=hold.request_id,
        ending=outcome.ending,
        text=completion.text if completion else "",
        reason=reason,
        stop_reason=completion.stop_reason if completion else None,
        model=hold.model,
        max_tokens=hold.max_tokens,
        cost=cost,
        balance_msat=event.balance_msat,
    )
    alarms = hold_alarms(terms, hold, cost, outcome)
    models, request_id = terms.terms.models, hold.request_id
    alarms += billing_alarms(models[terms.eval_model], evaluation, request_id=request_id)
    alarms += billing_alarms(models[hold.model], work, request_id=request_id)
    marks = (*idempotency_keys.marks(hold.once, answer), *_for_repetitions(command.intent, outcome.ending))
    return Decision((event,), answers={_topic(hold): answer}, marks=marks, alarms=alarms, after=after)


def _relay_ended(
    terms: SessionTerms, session: Session, hold: Hold, intent: RelayRequest, outcome: RelayOutcome, now_ms: int
) -> Decision:
    """Charge a relayed call. A call that the provider refuses costs nothing, and may be sent again."""
    work = relay_usage(terms, hold, intent, outcome)
    cost = actual_cost(terms, hold, None, work)
    refused = outcome.status >= 400
    event: HoldReleased | RequestFinished
    if refused:
        after, event = place(session, released(session, hold, now_ms))
    else:
        tariff = tariff_of(terms.terms, hold.model, None)
        reports = Reports(work=outcome.reported if outcome.charged else None)
        receipt = note(session.tariffs, tariff, intent.body.digest, outcome.body, reports)
        after, event = _finished(session, hold, cost, outcome.ending, None, work, receipt, now_ms)
    answer = Relayed(
        request_id=hold.request_id,
        ending=outcome.ending,
        status=outcome.status,
        headers=outcome.headers,
        body=outcome.body,
        max_tokens=hold.max_tokens,
        cost=cost,
        balance_msat=event.balance_msat,
        at_ms=hold.at_ms,
        told=outcome.told,
    )
    # Callers that wait for a stream have its bytes already.
    told = replace(answer, body=b"") if outcome.streamed else answer
    marks = () if refused else (*idempotency_keys.marks(hold.once, answer), *_for_repetitions(intent, outcome.ending))
    alarms = hold_alarms(terms, hold, cost, outcome)
    alarms += billing_alarms(terms.terms.models[hold.model], work, intent.billed_as, request_id=hold.request_id)
    return Decision((event,), answers={_topic(hold): told}, marks=marks, alarms=alarms, after=after)


def _for_repetitions(intent: AnswerRequest | RelayRequest, ending: Ending) -> tuple[Mark, ...]:
    """Return the mark by which a library's repeated call finds this answer; none if it broke off or was left."""
    if intent.attempt is None or ending not in {Ending.COMPLETE, Ending.REJECTED}:
        return ()
    return (idempotency_keys.repetition_mark(intent.attempt, intent.once),)


def _finished(
    session: Session,
    hold: Hold,
    cost: RequestCost,
    ending: Ending,
    evaluation: Usage | None,
    work: Usage | None,
    receipt: ReceiptNote,
    now_ms: int,
) -> tuple[Session, RequestFinished]:
    rest = hold.amount_msat - cost.debit_msat
    return place(
        session,
        RequestFinished(
            now_ms,
            name=hold.once.name,
            request_id=hold.request_id,
            ending=ending,
            debit_msat=cost.debit_msat,
            released_msat=rest,
            refunded_msat=rest if session.ended else ZERO,
            spender=hold.spender,
            cost_usd=cost.cost_usd,
            evaluation_usage=evaluation,
            work_usage=work,
            receipt=receipt,
        ),
    )


def released(session: Session, hold: Hold, now_ms: int) -> HoldReleased:
    """Return the event that releases the whole hold."""
    return HoldReleased(
        now_ms,
        name=hold.once.name,
        request_id=hold.request_id,
        released_msat=hold.amount_msat,
        refunded_msat=hold.amount_msat if session.ended else ZERO,
        spender=hold.spender,
    )


def _topic(hold: Hold) -> str:
    return _PREFIX + hold.once.name
