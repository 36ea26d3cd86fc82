"""Routes of signed receipts, and of the key that verifies them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response

from ... import __version__
from ...actors.domain import receipts
from ...actors.domain.errors import RefusedError, not_found
from ...actors.domain.llm.catalogue import Api
from ...actors.domain.llm.reported_usage import ReportedUsage
from ...actors.domain.money import usd_text
from ...actors.domain.pricing import ModelPrice, Usage
from ...actors.domain.receipts import GetJobReceipt, GetRequestReceipt
from ...actors.domain.timestamps import timestamp
from ..openapi.endpoint import Endpoint
from ..request import ids
from ..request.auth import Credentials
from ..response import json
from ..service.schemas import Rates
from ..service.views import rates
from ..state import AppState
from . import schemas
from .signing import ReceiptSigner

_REQUEST_ID: Final = re.compile(r"req_[A-Za-z0-9_-]{1,64}")
_DESCRIPTION: Final = "Sells AI compute for Bitcoin Lightning sats: by the job, or from a pre-funded session."


class Receipts:
    """The routes GET …/receipt, and GET /.well-known/satmeter.json."""

    def __init__(self, state: AppState, credentials: Credentials) -> None:
        self._state = state
        self._credentials = credentials
        self._signer = ReceiptSigner(state.receipt_key)
        previous = state.previous_keys
        self._signers = [self._signer, *([] if previous is None else [ReceiptSigner(previous.receipts)])]
        self._well_known = Response()

    async def of_job(self, request: Request) -> Response:
        """Answer GET /jobs/{jobId}/receipt."""
        job_id: str = request.path_params["jobId"]
        if not ids.is_job_id(job_id):
            raise RefusedError(not_found("job"))
        return self._signed(await self._state.router.call(job_id, GetJobReceipt()))

    async def of_request(self, request: Request) -> Response:
        """Answer GET /sessions/{sessionId}/requests/{requestId}/receipt."""
        session_id, grant, *_ = self._credentials.session(request)
        request_id: str = request.path_params["requestId"]
        if not _REQUEST_ID.fullmatch(request_id):
            raise RefusedError(not_found("request of this session"))
        return self._signed(await self._state.router.call(session_id, GetRequestReceipt(request_id, grant)))

    async def well_known(self, request: Request) -> Response:
        """Answer GET /.well-known/satmeter.json."""
        return self._well_known

    def describe(self, table: Sequence[Endpoint]) -> None:
        """Build the description of these routes."""
        described = schemas.WellKnown(
            name="Satmeter",
            description=_DESCRIPTION,
            version=__version__,
            documentation="/openapi.json",
            endpoints={endpoint.operation.id: f"{endpoint.method} {endpoint.path}" for endpoint in table},
            keys=[schemas.PublicKey.model_validate(signer.jwk) for signer in self._signers],
        )
        self._well_known = Response(
            json.encode(described), headers={"Cache-Control": "max-age=300"}, media_type="application/json"
        )

    def _signed(self, receipt: receipts.Receipt) -> Response:
        shown = wire(receipt, self._signer.key_id)
        return json.json_response(schemas.SignedReceipt(receipt=shown, jws=self._signer.sign(json.encode(shown))))


def wire(receipt: receipts.Receipt, key_id: str) -> schemas.Receipt:
    """Return the receipt in the form that is signed."""
    told: dict[str, Any] = {
        "job_id": receipt.job_id,
        "session_id": receipt.session_id,
        "request_id": receipt.request_id,
        "spender": receipt.spender,
        "state": receipt.state,
        "at": timestamp(receipt.at_ms),
        "request_sha256": receipt.request_digest,
        "answer_sha256": receipt.answer_digest,
        "charges": _charges(receipt),
        "infra_cost_usd": "0.00",
        "cost_usd": usd_text(receipt.cost_usd),
        "charged_msat": receipt.charged_msat.value,
        "limit_msat": receipt.limit_msat.value,
        "evaluation_fee_msat": None if receipt.evaluation_fee_msat is None else receipt.evaluation_fee_msat.value,
        "ledger_seq": receipt.ledger_seq,
    }
    if receipt.tariff is not None:
        told["margin_pct"] = receipt.tariff.margin_pct
        if receipt.work_usage is not None:
            told["infra_cost_usd"] = usd_text(receipt.tariff.infra_usd)
    if receipt.btc_price is not None:
        told["btc_price_usd"] = usd_text(receipt.btc_price.usd)
        told["btc_price_source"] = receipt.btc_price.origin
        told["btc_price_at"] = timestamp(receipt.btc_price.at_ms)
    return schemas.Receipt(version=1, key_id=key_id, **told)


def _charges(receipt: receipts.Receipt) -> list[schemas.Charge]:
    tariff, charges = receipt.tariff, []
    if tariff is not None and tariff.evaluator is not None and receipt.evaluation_usage is not None:
        charges.append(_charge("evaluation", tariff.evaluator, receipt.evaluation_usage, receipt.evaluation_reported))
    if tariff is not None and receipt.work_usage is not None:
        charges.append(_charge("work", tariff.model, receipt.work_usage, receipt.work_reported))
    return charges


def _charge(step: Any, price: ModelPrice, usage: Usage, reported: ReportedUsage | None) -> schemas.Charge:
    return schemas.Charge(
        step=step,
        model=price.model,
        input_tokens=usage.input_tokens,
        output_tokens=usage.output_tokens,
        cache_read_tokens=usage.cache_read_tokens,
        cache_write_5m_tokens=usage.cache_write_5m_tokens,
        cache_write_1h_tokens=usage.cache_write_1h_tokens,
        rates=Rates(**rates(price.rates_for(usage))),
        cost_usd=usd_text(price.cost_usd(usage)),
        provider=None if reported is None else _provider(reported),
        per_request_usd=usd_text(price.per_request) if price.per_request else None,
        web_searches=usage.web_searches or None,
        web_search_per_1000_usd=None
        if price.web_search_per_1000 is None or not usage.web_searches
        else usd_text(price.web_search_per_1000),
    )


def _provider(reported: ReportedUsage) -> schemas.ProviderUsage:
    return schemas.ProviderUsage(
        upstream=reported.upstream,
        request_id=reported.provider_id,
        first_usage=reported.first,
        usage=list(reported.later),
        partial=reported.partial or None,
        cut=reported.cut or None,
        api="openai" if reported.api is Api.OPENAI else None,
        missing=reported.missing or None,
    )
