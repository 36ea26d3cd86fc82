"""The operator's side of a session, from the settings: hosts hold and charge by it, fronts say what a request takes."""

from __future__ import annotations

from typing import Final

from ..config.settings import Settings
from .domain.session_price import SessionTerms
from .prompts import EVALUATION_MAX_TOKENS, evaluation_overhead_bytes, work_overhead_bytes

# What a provider may add to a prompt of ours, unseen: its own framing of roles and of a schema.
_UNSEEN_TOKENS: Final = 1_000
# About thirty words: with less, an answer is not worth its price.
_LEAST_TOKENS: Final = 64


def session_terms(settings: Settings) -> SessionTerms:
    """The terms. Raises `ValueError` when a configured model has no price."""
    return SessionTerms(
        terms=settings.terms(),
        eval_model=settings.eval_model,
        # Bytes bound tokens, whatever the tokenizer.
        eval_overhead_tokens=evaluation_overhead_bytes() + _UNSEEN_TOKENS,
        eval_max_tokens=EVALUATION_MAX_TOKENS,
        work_overhead_tokens=work_overhead_bytes() + _UNSEEN_TOKENS,
        least_tokens=_LEAST_TOKENS,
        default_tokens=settings.session_tokens,
        most_tokens=max(settings.session_tokens, settings.session_tokens_max),
        life_ms=settings.session_life_s * 1_000,
        invoice_expiry_s=settings.invoice_expiry_s,
        pending_max=settings.session_invoices_max,
    )
