"""What the model said: the verdict on a request, and the answer to one, each with the tokens that it used."""

from __future__ import annotations

import msgspec

from .pricing import BtcPrice, Size, Usage


class Verdict(msgspec.Struct, frozen=True):
    """What the evaluation decided: whether we do the work, why (a sentence for the client), and its size."""

    accepted: bool
    reason: str
    size: Size


class Evaluation(msgspec.Struct, frozen=True):
    """A verdict and what finding it used; `usage` is None when the provider's figures were unreadable."""

    verdict: Verdict
    model: str
    usage: Usage | None


class PricedEvaluation(msgspec.Struct, frozen=True):
    """An evaluation together with the exchange rate at which the work is quoted."""

    evaluation: Evaluation
    btc_price: BtcPrice


class Completion(msgspec.Struct, frozen=True):
    """A model's whole answer and what it used; `usage` is None when the provider's figures were unreadable."""

    text: str
    model: str
    usage: Usage | None
    stop_reason: str
