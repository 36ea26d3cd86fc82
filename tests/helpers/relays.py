"""Builders for tests about relayed calls."""

from __future__ import annotations

from satmeter.actors.domain.credentials.caveats import Grant
from satmeter.actors.domain.llm.answers import Ending
from satmeter.actors.domain.llm.relays import PromptRate, RelayBody, RelayOutcome
from satmeter.actors.domain.pricing import BtcPrice, Usage
from satmeter.actors.domain.session.messages import Relay
from tests.helpers.fakes import JSON_HEADERS, STREAM_HEADERS
from tests.helpers.jobs import BTC, USAGE
from tests.helpers.sessions import FULL, once


def relay_body(max_tokens: int, text: str = "hello") -> RelayBody:
    """A body whose `max_tokens` stands in its middle."""
    before, after = b'{"max_tokens":', b',"text":"%b"}' % text.encode()
    number = b"%d" % max_tokens
    return RelayBody(before + number + after, max_tokens, len(before), len(before + number))


def relay(
    name: str = "a",
    max_tokens: int = 1_000,
    *,
    tokens: int = 300,
    rate: PromptRate = PromptRate.INPUT,
    least: int = 0,
    digest: str = "digest",
    keyed: bool = True,
    model: str = "sonnet",
    stream: bool = False,
    by: Grant = FULL,
    btc_price: BtcPrice = BTC,
    text: str = "hello",
) -> Relay:
    """A call with a prompt of so many tokens at most; its id is `req_` and the name."""
    return Relay(
        request_id=f"req_{name}",
        model=model,
        body=relay_body(max_tokens, text),
        headers={},
        beta=False,
        stream=stream,
        prompt_tokens_max=tokens,
        prompt_rate=rate,
        least_tokens=least,
        once=once(f"ask:{name}", digest, keyed=keyed),
        grant=by,
        btc_price=btc_price,
    )


def relayed(
    usage: Usage | None = USAGE,
    ending: Ending = Ending.COMPLETE,
    *,
    streamed: bool = False,
    status: int = 200,
    charged: bool = True,
    given: int = 7,
    told: bool = False,
) -> RelayOutcome:
    """Return the outcome of a call; with the usual usage it costs 3,780 msat."""
    headers = STREAM_HEADERS if streamed else JSON_HEADERS
    return RelayOutcome(ending, streamed, status, headers, b"the answer", charged, usage, given, told)
