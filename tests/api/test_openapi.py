"""The OpenAPI document: it is valid, it lists what exists, and what the server says keeps to it."""

from __future__ import annotations

import asyncio
import json
import re
from typing import Any, cast

import jsonschema_rs
import pytest
from starlette.routing import Route, Router

from satmeter.actors.domain.errors import Code
from satmeter.actors.domain.money import Msat
from satmeter.actors.domain.payments.bolt11 import read_invoice
from satmeter.actors.domain.timestamps import timestamp
from satmeter.http.cors import CorsMiddleware
from satmeter.http.middleware import RequestMiddleware
from satmeter.http.openapi.examples import EXAMPLES
from satmeter.http.payments.refunds import PayoutOrder, Refunds
from satmeter.http.response.errors import STATUS
from tests.helpers.http.fronts import Api, Json

EXISTING = {
    ("POST", "/jobs"),
    ("GET", "/jobs/{jobId}"),
    ("GET", "/jobs/{jobId}/events"),
    ("POST", "/jobs/{jobId}/refund"),
    ("GET", "/jobs/{jobId}/receipt"),
    ("GET", "/sessions/{sessionId}/requests/{requestId}/receipt"),
    ("GET", "/.well-known/satmeter.json"),
    ("POST", "/sessions"),
    ("GET", "/sessions/{sessionId}"),
    ("POST", "/sessions/{sessionId}/topup"),
    ("POST", "/sessions/{sessionId}/request"),
    ("GET", "/sessions/{sessionId}/ledger"),
    ("POST", "/sessions/{sessionId}/close"),
    ("POST", "/sessions/{sessionId}/withdraw"),
    ("GET", "/lnurl/withdraw/{token}"),
    ("GET", "/lnurl/withdraw/{token}/callback"),
    ("GET", "/lnurl/withdraw/{token}/qr.svg"),
    ("GET", "/pay/{payId}"),
    ("GET", "/pay/{payId}/invoice"),
    ("GET", "/pay/{payId}/qr.svg"),
    ("PUT", "/sessions/{sessionId}/refund-destination"),
    ("POST", "/v1/messages"),
    ("POST", "/v1/messages/count_tokens"),
    ("POST", "/ask"),
    ("POST", "/v1/chat/completions"),
    ("POST", "/v1/responses"),
    ("POST", "/v1/responses/input_tokens"),
    ("GET", "/v1/models"),
    ("GET", "/v1/models/{modelId}"),
    ("GET", "/demo"),
    ("GET", "/pricing"),
    ("GET", "/openapi.json"),
    ("GET", "/docs"),
    ("GET", "/healthz"),
    ("GET", "/readyz"),
    ("GET", "/metrics"),
    ("GET", "/"),
    ("GET", "/assets/{digest}/{name}"),
    ("POST", "/dev/stub/pay/{paymentHash}"),
    ("POST", "/dev/stub/invoice"),
}


async def document_of(api: Api) -> Json:
    return cast(Json, (await api.http.get("/openapi.json")).json())


def operations_of(document: Json) -> dict[tuple[str, str], Json]:
    return {(m.upper(), path): op for path, methods in document["paths"].items() for m, op in methods.items()}


def validator_of(document: Json, schema: str) -> jsonschema_rs.Draft202012Validator:
    root = {"$ref": f"#/components/schemas/{schema}", "components": document["components"]}
    return jsonschema_rs.Draft202012Validator(root, validate_formats=True)


async def test_the_document_lists_exactly_the_routes_that_exist(api: Api) -> None:
    edge = api.app._app if isinstance(api.app, CorsMiddleware) else api.app
    assert isinstance(edge, RequestMiddleware) and isinstance(edge._app, Router)
    # The operator's page is forms for one person, and not an API.
    routes = [r for r in edge._app.routes if isinstance(r, Route) and not r.path_format.startswith("/operator")]
    existing = {(method, r.path_format) for r in routes for method in r.methods or () if method != "HEAD"}
    assert existing == set(operations_of(await document_of(api))) == EXISTING


async def test_the_document_is_openapi_3_1_and_names_no_other_place(api: Api) -> None:
    answer = await api.http.get("/openapi.json")
    document = answer.json()
    assert answer.headers["content-type"] == "application/json"
    assert document["openapi"] == "3.1.0"
    assert "http://" not in answer.text and "https://" not in answer.text
    for schema in document["components"]["schemas"].values():
        assert jsonschema_rs.meta.is_valid(schema)


async def test_every_reference_leads_somewhere_and_every_schema_is_used(api: Api) -> None:
    text = (await api.http.get("/openapi.json")).text
    named = set(re.findall(r'"#/components/(\w+)/([\w-]+)"', text))
    components = json.loads(text)["components"]
    # An operation names a scheme by its name alone.
    named |= {("securitySchemes", name) for name in re.findall(r'{"(\w+)":\[\]}', text)}
    assert named == {(kind, name) for kind, found in components.items() for name in found}


async def test_each_operation_documents_its_errors_with_their_headers(api: Api) -> None:
    for (_, path), operation in operations_of(await document_of(api)).items():
        shape = "/MessagesError" if path.startswith("/v1/messages") else "/ChatError" if "/v1/" in path else "/Error"
        responses = operation["responses"]
        assert "500" in responses
        for status, response in responses.items():
            assert "X-Request-Id" in response["headers"]
            assert ("Retry-After" in response["headers"]) == (status in {"425", "429", "503", "529"})
            let_in = {"401", "402"} if {} in operation.get("security", ()) else {"401"}
            assert ("WWW-Authenticate" in response["headers"]) == (status in let_in)
            if int(status) >= 400:
                assert response["content"]["application/json"]["schema"]["$ref"].endswith(shape)
    created = operations_of(await document_of(api))["POST", "/jobs"]["responses"]
    assert set(created) == {"201", "400", "409", "413", "415", "429", "500", "503"}
    assert "Location" in created["201"]["headers"]


async def test_no_body_has_a_field_that_may_be_null(api: Api) -> None:
    assert '"null"' not in (await api.http.get("/openapi.json")).text


@pytest.mark.parametrize("name", EXAMPLES)
async def test_examples_keep_to_their_schemas(api: Api, name: str) -> None:
    validator_of(await document_of(api), name).validate(EXAMPLES[name])


async def test_answers_keep_to_their_schemas_in_every_state_of_a_job(api: Api) -> None:
    document = await document_of(api)
    validator = validator_of(document, "JobStatus")
    created = await api.create()
    validator_of(document, "JobCreated").validate(created)
    validator.validate(await api.show(created["jobId"]))
    validator.validate(await api.complete())
    priced = await api.create()
    await api.pay(priced["evalInvoice"])
    validator.validate(await api.job_in(priced["jobId"], "awaiting_work_payment"))
    validator_of(document, "Pricing").validate((await api.http.get("/pricing")).json())


async def test_the_example_has_the_fields_that_a_real_job_has(api: Api) -> None:
    def shape(value: Any) -> Any:
        return {name: shape(inner) for name, inner in value.items()} if isinstance(value, dict) else None

    assert shape(EXAMPLES["JobStatus"]) == shape(await api.complete())
    assert shape(EXAMPLES["JobCreated"]) == shape(await api.create())


def test_every_code_has_the_status_of_the_contract() -> None:
    assert set(STATUS) == set(Code)


async def test_the_page_documents_every_operation_and_schema(api: Api) -> None:
    page, document = (await api.http.get("/docs")).text, await document_of(api)
    for (method, path), operation in operations_of(document).items():
        assert f"id='{operation['operationId']}'" in page
        assert f">{method}</span> <span class='path'>{path}</span>" in page
    for name in document["components"]["schemas"]:
        assert f"<details id='{name}'>" in page
    assert set(re.findall(r"href='#(\w+)'", page)) <= {*document["components"]["schemas"], "schemas"}


async def test_the_pages_are_built_once_and_served_to_many(api: Api) -> None:
    answers = await asyncio.gather(*(api.http.get("/docs") for _ in range(3)))
    assert len({answer.text for answer in answers}) == 1
    assert len({answer.headers["x-request-id"] for answer in answers}) == 3


async def test_open_operations_say_so_and_bounds_are_json_schemas_own(api: Api) -> None:
    document = await document_of(api)
    operations = operations_of(document)
    assert all("security" in operation for operation in operations.values())
    assert operations["POST", "/jobs"]["security"] == [] != operations["GET", "/sessions/{sessionId}"]["security"]
    fields = document["components"]["schemas"]["ChatRequest"]["properties"]
    assert (fields["temperature"]["minimum"], fields["temperature"]["maximum"]) == (0, 2)
    assert (fields["max_completion_tokens"]["minimum"], fields["top_p"]["maximum"]) == (1, 1)
    for schema in document["components"]["schemas"].values():
        for field in schema.get("properties", {}).values():
            assert not {"ge", "le", "gt", "lt"} & set(field)


def examples_in(part: Any) -> list[Any]:
    """All examples below this part of the document."""
    if isinstance(part, list):
        return [found for inner in part for found in examples_in(inner)]
    if not isinstance(part, dict):
        return []
    return [part[name] for name in ("example",) if name in part] + [
        found for inner in part.values() for found in examples_in(inner)
    ]


def invoices_in(part: Any) -> list[Json]:
    """All objects with a payment request."""
    if isinstance(part, list):
        return [found for inner in part for found in invoices_in(inner)]
    if not isinstance(part, dict):
        return []
    return [part] * ("paymentRequest" in part) + [found for inner in part.values() for found in invoices_in(inner)]


async def test_every_invoice_in_an_example_is_whole_and_says_what_stands_beside_it(api: Api) -> None:
    invoices = invoices_in(examples_in(await document_of(api)))
    assert len(invoices) >= 8
    for shown in invoices:
        invoice = read_invoice(shown["paymentRequest"])
        if "paymentHash" in shown:
            beside = (shown["paymentHash"], shown["amountSats"] * 1_000, shown["expiresAt"])
            assert (invoice.payment_hash, invoice.amount_msat.value, timestamp(invoice.expires_at_ms)) == beside


async def test_the_example_invoices_are_ones_that_the_server_takes(api: Api) -> None:
    for name, sats in (("RefundOrder", 3), ("CloseOrder", 985)):
        order = PayoutOrder(EXAMPLES[name]["paymentRequest"], sats)
        assert (await Refunds(api.state).target(order)).amount_msat == Msat.from_sats(sats)
