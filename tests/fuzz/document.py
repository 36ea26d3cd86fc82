"""Fuzzing of a running server by its own document, with credentials, and with ids of what exists."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import count
from typing import Any, Final

import httpx
import schemathesis
from schemathesis.config import SchemathesisConfig
from schemathesis.core.parameters import ParameterLocation
from schemathesis.core.result import Ok
from schemathesis.engine import from_schema
from schemathesis.engine.events import FatalError, NonFatalError, ScenarioFinished

from tests.helpers.served import patiently

Json = dict[str, Any]
MODEL: Final = "claude-haiku-4-5"
_SATS: Final = 100_000
_TOP_UPS_OF_A_SESSION: Final = 3
_PAYOUTS: Final = frozenset({"closeSession", "refundJob"})


@dataclass
class Found:
    """Outcome of a fuzzing: the operations asked for, their statuses, and all that went wrong."""

    asked: set[str] = field(default_factory=set)
    statuses: Counter[tuple[str, int]] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)

    @property
    def cases(self) -> int:
        """Number of requests."""
        return sum(self.statuses.values())


class Client:
    """A client that pays with the stub node, and has sessions and jobs in all states."""

    def __init__(self, url: str) -> None:
        self._http = httpx.Client(base_url=url, timeout=60, trust_env=False)
        self.session_id, self.macaroon = self.session()
        asked = self._post(f"/sessions/{self.session_id}/request", {"request": "hello"}, self.macaroon)
        self.request_id = asked["requestId"]
        self.job_id = self._job()
        self._topped_up = count()
        self.withdrawal_token = self._withdrawal_token()
        self._to_top_up = self.session()
        self.asset_digest, self.asset_name = self._asset()

    def session(self) -> tuple[str, str]:
        """Return a session that is paid for, and its macaroon."""
        opened = self._post("/sessions", {"amountSats": _SATS})
        self._pay(opened["depositInvoice"])
        found = opened["sessionId"], opened["macaroon"]
        patiently(lambda: self._get(f"/sessions/{found[0]}", found[1])["state"] == "active", "a deposit")
        return found

    def session_to_top_up(self) -> tuple[str, str]:
        """Return a session with room for another unpaid invoice."""
        if next(self._topped_up) % _TOP_UPS_OF_A_SESSION == 0:
            self._to_top_up = self.session()
        return self._to_top_up

    def pay_page(self) -> str:
        """Return the id of the page of an invoice that waits."""
        return str(self._post("/sessions", {"amountSats": 100})["depositInvoice"]["payPage"]).split("/")[-1]

    def unpaid_hash(self) -> str:
        """Return the payment hash of an invoice that waits."""
        return str(self._post("/sessions", {"amountSats": 100})["depositInvoice"]["paymentHash"])

    def wallet_invoice(self, sats: int = 1) -> str:
        """Return an invoice of the client's own wallet."""
        return str(self._post("/dev/stub/invoice", {"amountSats": sats})["paymentRequest"])

    def close(self) -> None:
        """End connections."""
        self._http.close()

    def _job(self) -> str:
        job = self._post("/jobs", {"request": "say hello"})
        self._pay(job["evalInvoice"])
        path = f"/jobs/{job['jobId']}"
        patiently(lambda: self._get(path)["state"] == "awaiting_work_payment", "a quote")
        self._pay(self._get(path)["workInvoice"])
        patiently(lambda: self._get(path)["state"] == "complete", "a job")
        return str(job["jobId"])

    def _withdrawal_token(self) -> str:
        session_id, macaroon = self.session()
        closed = self._post(f"/sessions/{session_id}/withdraw", {}, macaroon)
        return str(closed["refund"]["withdraw"]["qr"]).split("/")[-2]

    def _asset(self) -> tuple[str, str]:
        found = re.search(r'"/assets/([^/"]+)/([^"]+)"', self._http.get("/").text)
        assert found is not None
        return found[1], found[2]

    def _pay(self, invoice: Json) -> None:
        assert self._post(f"/dev/stub/pay/{invoice['paymentHash']}")["paid"]

    def _get(self, path: str, macaroon: str | None = None) -> Json:
        answer = self._http.get(path, headers=_bearer(macaroon))
        assert answer.status_code == 200, answer.text
        found: Json = answer.json()
        return found

    def _post(self, path: str, body: Json | None = None, macaroon: str | None = None) -> Json:
        answer = self._http.post(path, json=body, headers=_bearer(macaroon))
        assert answer.status_code in (200, 201), answer.text
        found: Json = answer.json()
        return found


def _bearer(macaroon: str | None) -> dict[str, str]:
    return {} if macaroon is None else {"Authorization": f"Bearer {macaroon}"}


class Filling:
    """Filling of generated requests with what only the server knows: ids, macaroons, models, invoices."""

    def __init__(self, client: Client, operator_token: str) -> None:
        self._client = client
        self._token = operator_token
        self._number = count()
        self._by_operation: Mapping[str, Callable[[], tuple[str, str]]] = {
            "closeSession": client.session,
            "withdrawSession": client.session,
            "topUpSession": client.session_to_top_up,
        }

    def fill(self, case: Any) -> None:
        """Fill a request. What is wrong in it on purpose stays so."""
        operation = case.operation.definition.raw
        made = self._by_operation.get(operation["operationId"])
        session_id, macaroon = made() if made else (self._client.session_id, self._client.macaroon)
        if _is_good(case, ParameterLocation.PATH):
            self._fill_path(case, session_id)
        if _is_good(case, ParameterLocation.HEADER):
            self._fill_headers(case, operation, macaroon)
        if _is_good(case, ParameterLocation.BODY) and isinstance(case.body, dict):
            self._fill_body(case, case.body)
            if operation["operationId"] in _PAYOUTS:
                # An invoice tells its amount itself, and without a destination there is none.
                case.body.pop("amountSats", None)

    def _fill_path(self, case: Any, session_id: str) -> None:
        values: Mapping[str, Callable[[], str]] = {
            "sessionId": lambda: session_id,
            "jobId": lambda: self._client.job_id,
            "requestId": lambda: self._client.request_id,
            "modelId": lambda: MODEL,
            "paymentHash": self._client.unpaid_hash,
            "token": lambda: self._client.withdrawal_token,
            "payId": self._client.pay_page,
            "digest": lambda: self._client.asset_digest,
            "name": lambda: self._client.asset_name,
        }
        for name in case.path_parameters or {}:
            case.path_parameters[name] = values[name]()

    def _fill_headers(self, case: Any, operation: Json, macaroon: str) -> None:
        security = operation.get("security") or []
        if security:
            token = self._token if "operator" in security[0] else macaroon
            case.headers["Authorization"] = f"Bearer {token}"
        for name, value in list((case.headers or {}).items()):
            if name.lower() == "idempotency-key":
                # The same key with another body would be a conflict.
                case.headers[name] = f"{next(self._number)}-{value}"[:255]

    def _fill_body(self, case: Any, body: Json) -> None:
        if isinstance(body.get("model"), str):
            body["model"] = MODEL
        if isinstance(body.get("paymentRequest"), str):
            body["paymentRequest"] = self._client.wallet_invoice()
        if isinstance(body.get("refundTo"), str):
            body["refundTo"] = "name@example.org"
        if isinstance(body.get("messages"), list) and next(self._number) % 2:
            # The schema leaves messages to the provider, which would refuse most.
            body["messages"] = [{"role": "user", "content": "Hello"}]
        # That its address is a public one is more than a schema can say.
        body.pop("webhook", None)


def _is_good(case: Any, place: ParameterLocation) -> bool:
    component = case.meta.components.get(place) if case.meta is not None else None
    return component is None or component.mode.is_positive


def fuzz(url: str, operator_token: str, config: Mapping[str, Any]) -> Found:
    """Ask for everything in the document, and return what was found."""
    client = Client(url)
    filling, found = Filling(client, operator_token), Found()
    schema = schemathesis.openapi.from_url(f"{url}/openapi.json", config=SchemathesisConfig.from_dict(dict(config)))

    @schemathesis.hook
    def before_call(context: Any, case: Any, kwargs: Any) -> None:
        filling.fill(case)

    @schemathesis.hook
    def after_call(context: Any, case: Any, response: Any) -> None:
        found.statuses[case.operation.label, response.status_code] += 1

    try:
        for event in from_schema(schema).execute():
            if isinstance(event, FatalError):
                raise event.exception
            if isinstance(event, NonFatalError):
                found.wrong.append(f"{event.label}: {event.value!r}")
            elif isinstance(event, ScenarioFinished):
                found.asked.update(node.value.operation.label for node in event.recorder.cases.values())
                for checks in event.recorder.checks.values():
                    failed = [check.failure_info for check in checks if check.failure_info is not None]
                    found.wrong += [f"{event.label}: {info.failure}: {info.code_sample}" for info in failed]
    finally:
        for hook in (before_call, after_call):
            schemathesis.hooks.unregister(hook)
        client.close()
    return found


def examples(url: str, operator_token: str) -> dict[str, int]:
    """Send the example of each body, filled; return the statuses by operation."""
    client = Client(url)
    filling = Filling(client, operator_token)
    schema = schemathesis.openapi.from_url(f"{url}/openapi.json")
    found: dict[str, int] = {}
    for result in schema.get_all_operations():
        assert isinstance(result, Ok)
        operation = result.ok()
        raw = operation.definition.raw
        example = raw.get("requestBody", {}).get("content", {}).get("application/json", {}).get("example")
        if example is not None:
            named = {part["name"]: "" for part in raw.get("parameters", ()) if part["in"] == "path"}
            case = operation.Case(path_parameters=named, body=example, media_type="application/json")
            filling.fill(case)
            found[raw["operationId"]] = case.call(base_url=url).status_code
    client.close()
    return found
