"""Prices of a session's request: the most that it may cost, and its actual cost."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Final

import msgspec
from msgspec.structs import replace

from ..behaviour import Alarm
from ..llm.answers import Ending, RequestOutcome, Step
from ..llm.intents import RelayRequest
from ..llm.missing_usage import usage_in_place
from ..llm.relays import PromptRate, RelayOutcome
from ..money import EXACT, MSAT_PER_BTC, Msat, usd_text, usd_to_msat
from ..payments.routing_fees import RoutingFees
from ..pricing import BYTES_PER_TOKEN, NO_USAGE, BtcPrice, Terms, Usage
from .messages import Ask, Relay, RequestCost
from .state import Hold

_NO_USD: Final = Decimal(0)
# A verdict has about 100 tokens.
_VERDICT_TOKENS: Final = 150
# A verdict's JSON has at most so many beside its reason.
_VERDICT_BYTES: Final = 100


class SessionTerms(msgspec.Struct, frozen=True):
    """The operator's terms for sessions: prices, models, and limits.

    The overheads are upper bounds, in tokens, of the text around a request in each prompt. `least_tokens` is the
    smallest useful limit of an answer, `default_tokens` the limit if the client names none, `most_tokens` the highest.
    """

    terms: Terms
    eval_model: str
    eval_overhead_tokens: int
    eval_max_tokens: int
    work_overhead_tokens: int
    least_tokens: int
    default_tokens: int
    most_tokens: int
    life_ms: int
    invoice_expiry_s: int
    pending_max: int
    routing_fees: RoutingFees


class Worst:
    """The worst case of one request, by the length of its answer.

    `prompt` is an upper bound of the tokens that the model reads, `before_usd` the cost of the calls before it. Each of
    the `choices` may be as long as the answer.
    """

    def __init__(
        self,
        terms: Terms,
        model: str,
        btc_price: BtcPrice,
        prompt: Usage,
        before_usd: Decimal = _NO_USD,
        choices: int = 1,
    ) -> None:
        self._terms = terms
        self._model = model
        self._btc_price = btc_price
        self._prompt = prompt
        self._before_usd = before_usd
        self._choices = choices

    def usage(self, max_tokens: int) -> Usage:
        """Return the tokens of the work with answers of so many tokens each."""
        return replace(self._prompt, output_tokens=max_tokens * self._choices)

    def msat(self, max_tokens: int) -> Msat:
        """Return the whole price with answers of so many tokens each, infrastructure and margin included."""
        cost_usd = EXACT.add(self._before_usd, self._terms.price_usd(self._model, self.usage(max_tokens)))
        return usd_to_msat(self._terms.with_margin(cost_usd), self._btc_price.usd)

    def longest(self, allowed: Msat, least: int, most: int) -> int:
        """Return the longest answer, from `least` to `most` tokens, that `allowed` covers; it must cover `least`."""
        if self.msat(most) <= allowed:
            return most
        while most - least > 1:
            middle = (least + most) // 2
            least, most = (middle, most) if self.msat(middle) <= allowed else (least, middle)
        return least


def worst_of_ask(terms: SessionTerms, command: Ask) -> Worst:
    """Return the worst case of evaluation and work. It is an upper bound because a token has at least one byte."""
    evaluation_usd = terms.terms.models[terms.eval_model].cost_usd(_worst_evaluation(terms, command.request))
    prompt = _worst_work(terms, command.request, 0)
    return Worst(terms.terms, command.model, command.btc_price, prompt, evaluation_usd)


def _worst_evaluation(terms: SessionTerms, request: str) -> Usage:
    # The judge gets the request as a JSON string, in which line breaks and quotes take more bytes.
    return Usage(len(msgspec.json.encode(request)) + terms.eval_overhead_tokens, terms.eval_max_tokens)


def _worst_work(terms: SessionTerms, request: str, max_tokens: int) -> Usage:
    return Usage(len(request.encode()) + terms.work_overhead_tokens, max_tokens)


def worst_of_relay(terms: SessionTerms, command: Relay) -> Worst:
    """Return the worst case of the call alone, its prompt at the dearest rate that it may have."""
    tokens, price = command.prompt_tokens_max, terms.terms.models[command.model]
    prompt = Usage(tokens, 0, billed_as=command.billed_as, web_searches=command.web_searches)
    match command.prompt_rate:
        case PromptRate.CACHE_WRITE_5M:
            written = replace(prompt, input_tokens=0, cache_write_5m_tokens=tokens)
            prompt = max(prompt, written, key=price.cost_usd)
        case PromptRate.CACHE_WRITE_1H:
            written = replace(prompt, input_tokens=0, cache_write_1h_tokens=tokens)
            prompt = max(prompt, written, key=price.cost_usd)
    return Worst(terms.terms, command.model, command.btc_price, prompt, choices=command.body.choices)


def longest_prompt(
    terms: SessionTerms, command: Relay, max_tokens: int, allowed: Msat, most: int, bound_of: Callable[[int], int]
) -> int:
    """Return the most tokens, up to `most`, of a prompt that `allowed` covers with an answer of `max_tokens`; or 0.

    `bound_of` gives the upper bound by which a prompt of so many tokens is held.
    """

    def fits(tokens: int) -> bool:
        worst = worst_of_relay(terms, replace(command, prompt_tokens_max=bound_of(tokens)))
        return worst.msat(max_tokens) <= allowed

    if most < 1 or fits(most):
        return most
    least = 0
    while most - least > 1:
        middle = (least + most) // 2
        least, most = (middle, most) if fits(middle) else (least, middle)
    return least


def estimate(request_bytes: int) -> Usage:
    """Estimate a usage that can't be read. For the work, the answer's known length replaces the output tokens."""
    return Usage(-(-request_bytes // BYTES_PER_TOKEN), _VERDICT_TOKENS)


def actual_cost(terms: SessionTerms, hold: Hold, evaluation: Usage | None, work: Usage | None) -> RequestCost:
    """Return the cost of a request; its debit never exceeds its hold: a bound that was too low is our loss."""
    evaluation_usd = terms.terms.models[terms.eval_model].cost_usd(evaluation) if evaluation else _NO_USD
    work_usd = terms.terms.price_usd(hold.model, work) if work else _NO_USD
    cost_usd = EXACT.add(evaluation_usd, work_usd)
    price_usd = terms.terms.with_margin(cost_usd)
    covered = not _beyond(price_usd, hold)
    return RequestCost(
        model=terms.eval_model if evaluation and not work else hold.model,
        usage=work or evaluation or NO_USAGE,
        cost_usd=cost_usd,
        evaluation_cost_usd=evaluation_usd,
        held_msat=hold.amount_msat,
        debit_msat=usd_to_msat(price_usd, hold.btc_price.usd) if covered else hold.amount_msat,
    )


def _beyond(price_usd: Decimal, hold: Hold) -> bool:
    """Return True if a price is above the hold. Compares dollars: an absurd usage may exceed the range of `Msat`."""
    held_usd_units = EXACT.multiply(hold.btc_price.usd, hold.amount_msat.value)
    return EXACT.multiply(price_usd, MSAT_PER_BTC) > held_usd_units


def hold_alarms(
    terms: SessionTerms, hold: Hold, cost: RequestCost, outcome: RequestOutcome | RelayOutcome
) -> tuple[Alarm, ...]:
    """Return an alarm if the hold did not cover the provider's count: the rest is the operator's loss.

    An estimate above the hold raises no alarm, because it may be wrong.
    """
    price_usd = terms.terms.with_margin(cost.cost_usd)
    if not _counted(outcome) or not _beyond(price_usd, hold):
        return ()
    held_usd = EXACT.divide(EXACT.multiply(hold.btc_price.usd, hold.amount_msat.value), MSAT_PER_BTC)
    fields: dict[str, str | int] = {
        "request_id": hold.request_id,
        "model": cost.model,
        "held_msat": hold.amount_msat.value,
        "price_usd": usd_text(price_usd),
        "uncovered_usd": usd_text(EXACT.subtract(price_usd, held_usd)),
        "prompt_tokens": cost.usage.prompt_tokens,
        "output_tokens": cost.usage.output_tokens,
    }
    return (Alarm("hold_was_too_small", fields),)


def _counted(outcome: RequestOutcome | RelayOutcome) -> bool:
    """Return True if the whole usage is the provider's own count."""
    if outcome.ending not in (Ending.COMPLETE, Ending.REJECTED):
        return False
    if isinstance(outcome, RelayOutcome):
        return outcome.status < 400 and outcome.usage is not None
    return all(part is None or part.usage is not None for part in (outcome.evaluation, outcome.completion))


def evaluation_usage(terms: SessionTerms, hold: Hold, request: str, outcome: RequestOutcome) -> Usage | None:
    """Return the evaluation's usage, or what is charged in place of a missing one; None for nothing, or no call."""
    input_tokens = hold.estimate.input_tokens + terms.eval_overhead_tokens // BYTES_PER_TOKEN
    judged = outcome.evaluation
    if judged is None:
        return _unanswered(outcome, Step.EVALUATION, input_tokens)
    return judged.usage or usage_in_place(
        terms.terms.models[terms.eval_model].missing_usage,
        Ending.COMPLETE,
        bound=_worst_evaluation(terms, request),
        given_bytes=len(judged.verdict.reason.encode()) + _VERDICT_BYTES,
        estimate=Usage(input_tokens, _VERDICT_TOKENS),
    )


def work_usage(terms: SessionTerms, hold: Hold, request: str, outcome: RequestOutcome) -> Usage | None:
    """Return the work's usage, or what is charged in place of a missing one; None for nothing, or no call."""
    input_tokens = hold.estimate.input_tokens + terms.work_overhead_tokens // BYTES_PER_TOKEN
    done = outcome.completion
    if done is None:
        return _unanswered(outcome, Step.WORK, input_tokens)
    text_bytes = len(done.text.encode())
    return done.usage or usage_in_place(
        terms.terms.models[hold.model].missing_usage,
        outcome.ending,
        bound=_worst_work(terms, request, hold.max_tokens),
        given_bytes=max(text_bytes, done.given_bytes),
        estimate=Usage(input_tokens, -(-text_bytes // BYTES_PER_TOKEN)),
    )


def _unanswered(outcome: RequestOutcome, step: Step, estimated_tokens: int) -> Usage | None:
    """Return the prompt of a call whose client left before it had an answer: as counted, else as estimated."""
    sent = outcome.unanswered
    if sent is None or sent.step is not step:
        return None
    return Usage(estimated_tokens if sent.prompt_tokens is None else sent.prompt_tokens, 0)


def relay_usage(terms: SessionTerms, hold: Hold, intent: RelayRequest, outcome: RelayOutcome) -> Usage | None:
    """Return a relayed call's usage, or what is charged in place of a missing one; None for nothing, or no bill.

    Searches beyond those that the call allows are not the client's.
    """
    if not outcome.charged:
        return None
    if outcome.usage is not None:
        return replace(outcome.usage, web_searches=min(outcome.usage.web_searches, intent.web_searches))
    prompt_tokens = hold.estimate.input_tokens if outcome.prompt_estimate is None else outcome.prompt_estimate
    return usage_in_place(
        terms.terms.models[hold.model].missing_usage,
        outcome.ending,
        bound=intent.bound,
        given_bytes=max(outcome.given_bytes, outcome.given_tokens),
        estimate=Usage(prompt_tokens, outcome.given_tokens, billed_as=intent.billed_as),
    )
