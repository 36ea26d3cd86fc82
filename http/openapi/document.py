"""Builder of the OpenAPI 3.1 document from the routes and the schemas of bodies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from functools import lru_cache
from typing import Any, Final

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from ... import __version__
from ...actors.domain.errors import Code
from .. import schema as schemas
from ..response.advice import INTERNAL_ERROR, advice_of_code
from ..response.errors import STATUS, status_of
from .endpoint import Endpoint
from .examples import EXAMPLES, REQUEST_ID
from .operation import HTML, JSON, TAGS, WHEN, Answer, Operation, Parameter

_SCHEMAS: Final = "#/components/schemas/"
_HEADERS: Final = "#/components/headers/"
_DESCRIPTION: Final = (
    "Sells AI compute for Bitcoin Lightning sats. Amounts in `...Sats` are whole satoshis, in `...Msat` whole "
    "millisatoshis, in `...Usd` decimal strings. Times are RFC 3339 in UTC. Ids are opaque.\n\n"
    "Every error has one shape, with a stable `code` to branch on, `retryAction`, which says what a program does "
    "next, and `paymentState`, which says what became of its payment; its `requestId` is also in the header "
    "`X-Request-Id` of every answer. A method that a path does not take is a 405 with `Allow`."
)
_HEADER_OBJECTS: Final[Mapping[str, Any]] = {
    "X-Request-Id": {"description": "Names this request to the operator.", "schema": {"type": "string"}},
    "Retry-After": {"description": "Seconds to wait.", "schema": {"type": "integer", "minimum": 1}},
    "WWW-Authenticate": {"description": "The scheme of the credential.", "schema": {"type": "string"}},
    "Location": {"description": "Address of the new resource.", "schema": {"type": "string"}},
    "Request-Id": {"description": "The same as X-Request-Id, where SDKs look for it.", "schema": {"type": "string"}},
    "Satmeter-Debited-Msat": {"description": "What it cost.", "schema": {"type": "integer"}},
    "Satmeter-Balance-Msat": {"description": "What can still be spent.", "schema": {"type": "integer"}},
    "Satmeter-Ignored": {"description": "Fields that had no effect.", "schema": {"type": "string"}},
    "Satmeter-Max-Tokens": {"description": "What max_tokens was lowered to.", "schema": {"type": "integer"}},
}
# Statuses with a Retry-After header, and those with a WWW-Authenticate header.
_COME_BACK: Final = frozenset({STATUS[Code.REFUND_PENDING], STATUS[Code.RATE_LIMITED], STATUS[Code.UNAVAILABLE], 529})
_LET_IN: Final = frozenset({STATUS[Code.MISSING_CREDENTIAL]})
# The front may refuse any request so, before it looks at it.
_ANYWHERE: Final = (Code.RATE_LIMITED, Code.OVERLOADED)
_PAY: Final = frozenset({STATUS[Code.PAYMENT_REQUIRED]})
_NULL: Final = {"type": "null"}
_SCHEME: Final = "macaroon"
_KEY: Final = "apiKey"
_OPERATOR: Final = "operator"
_SCHEMES: Final[Mapping[str, Any]] = {
    _KEY: {
        "type": "apiKey",
        "in": "header",
        "name": "x-api-key",
        "description": "The session's macaroon, where an SDK sends its key.",
    },
    _SCHEME: {
        "type": "http",
        "scheme": "bearer",
        "bearerFormat": "macaroon",
        "description": "The session's macaroon, or one that was narrowed from it. `L402 <macaroon>:<preimage>` and its "
        "former name `LSAT` work as well.",
    },
    _OPERATOR: {"type": "http", "scheme": "bearer", "description": "The operator's token, `OPERATOR_TOKEN`."},
}


def build(endpoints: Sequence[Endpoint]) -> dict[str, Any]:
    """Return the document of these routes, as JSON values."""
    paths: dict[str, dict[str, Any]] = {}
    for endpoint in endpoints:
        paths.setdefault(endpoint.path, {})[endpoint.method.lower()] = _operation(endpoint.operation)
    tags = dict.fromkeys(endpoint.operation.tag for endpoint in endpoints)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Satmeter", "version": __version__, "description": _DESCRIPTION},
        "servers": [{"url": "/"}],
        "tags": [{"name": tag, "description": TAGS[tag]} for tag in tags],
        "paths": paths,
        "components": {
            "schemas": _schemas([endpoint.operation for endpoint in endpoints]),
            "headers": dict(_HEADER_OBJECTS),
            "securitySchemes": dict(_SCHEMES),
        },
    }


def _operation(operation: Operation) -> dict[str, Any]:
    described: dict[str, Any] = {
        "operationId": operation.id,
        "tags": [operation.tag],
        "summary": operation.summary,
        "description": operation.description,
        "responses": {
            **{str(answer.status): _answer(answer) for answer in operation.answers},
            **_refusals(operation),
        },
    }
    if operation.parameters:
        described["parameters"] = [_parameter(parameter) for parameter in operation.parameters]
    if operation.body is not None:
        content = {JSON: _content(operation.body)}
        described["requestBody"] = {"required": operation.body_required, "content": content}
    # An empty list says that no credential is needed; without one, linters take it for forgotten.
    described["security"] = _security(operation)
    return described


def _security(operation: Operation) -> list[dict[str, list[str]]]:
    """Return the ways to authenticate: an API key for providers' SDKs; without any, a challenge is the answer."""
    if operation.operators:
        return [{_OPERATOR: []}]
    if not operation.secured:
        return []
    schemes: list[dict[str, list[str]]] = [{_SCHEME: []}]
    if operation.error is not None or operation.challenges:
        schemes.append({_KEY: []})
    return [*schemes, {}] if operation.challenges else schemes


def _parameter(parameter: Parameter) -> dict[str, Any]:
    return {
        "name": parameter.name,
        "in": parameter.place,
        "required": parameter.required,
        "description": parameter.description,
        "schema": dict(parameter.schema),
    }


def _answer(answer: Answer) -> dict[str, Any]:
    return {
        "description": answer.description,
        "headers": _headers("X-Request-Id", *answer.headers),
        "content": {media_type: _content(model) for media_type, model in answer.content.items()},
    }


def _content(model: type[BaseModel] | None) -> dict[str, Any]:
    if model is None:
        return {}
    content: dict[str, Any] = {"schema": {"$ref": f"{_SCHEMAS}{model.__name__}"}}
    example = EXAMPLES.get(model.__name__)
    return content if example is None else {**content, "example": example}


def _refusals(operation: Operation) -> dict[str, Any]:
    by_status: dict[int, list[Code]] = {}
    for code in dict.fromkeys((*operation.errors, *_ANYWHERE)):
        by_status.setdefault(_status(code, operation), []).append(code)
    shape = operation.error
    let_in = _LET_IN | _PAY if operation.challenges else _LET_IN
    refusals = {status: _refusal(status, found, shape, let_in) for status, found in by_status.items()}
    wrong = "`internal_error`: something is wrong in the server."
    refusals[500] = _error(wrong, INTERNAL_ERROR, ("X-Request-Id",), shape)
    if any(HTML in answer.content for answer in operation.answers):
        for refusal in refusals.values():
            # A page for a browser that opens the address.
            refusal["content"][HTML] = {}
    return {str(status): refusals[status] for status in sorted(refusals)}


def _status(code: Code, operation: Operation) -> int:
    return status_of(code, operation.error_format)


def _refusal(status: int, codes: Sequence[Code], shape: type[BaseModel] | None, let_in: Set[int]) -> dict[str, Any]:
    description = " ".join(f"`{code.value}`: {WHEN[code]}" for code in codes)
    headers = ["X-Request-Id"]
    if status in _COME_BACK:
        headers.append("Retry-After")
    if status in let_in:
        headers.append("WWW-Authenticate")
    return _error(description, codes[0].value, headers, shape)


def _error(description: str, code: str, headers: Sequence[str], shape: type[BaseModel] | None) -> dict[str, Any]:
    name = (shape or schemas.Error).__name__
    content: dict[str, Any] = {JSON: {"schema": {"$ref": f"{_SCHEMAS}{name}"}}}
    if shape is None:
        content[JSON]["example"] = {
            "error": "A sentence for a person.",
            "code": code,
            "requestId": REQUEST_ID,
            **advice_of_code(code),
        }
    return {"description": description, "headers": _headers(*headers), "content": content}


def _headers(*names: str) -> dict[str, Any]:
    return {name: {"$ref": f"{_HEADERS}{name}"} for name in names}


def _schemas(operations: Sequence[Operation]) -> dict[str, Any]:
    named = [operation.body for operation in operations]
    named += [model for operation in operations for answer in operation.answers for model in answer.content.values()]
    named += [operation.error for operation in operations]
    models = dict.fromkeys([model for model in named if model is not None] + [schemas.Error])
    return {name: _plain(schema) for name, schema in sorted(_definitions(tuple(models)).items())}


@lru_cache(maxsize=8)
def _definitions(models: tuple[type[BaseModel], ...]) -> Mapping[str, Any]:
    """Return pydantic's JSON schemas, cached: they take 0.1 s, and all servers of a process have the same models."""
    _, definitions = models_json_schema([(m, "validation") for m in models], ref_template=f"{_SCHEMAS}{{model}}")
    found: Mapping[str, Any] = definitions["$defs"]
    return found


def _plain(schema: Any) -> Any:
    """Return the schema without pydantic's additions: titles that repeat names, and null for absent fields."""
    if isinstance(schema, list):
        return [_plain(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    if _NULL in schema.get("anyOf", ()):
        (present,) = (part for part in schema["anyOf"] if part != _NULL)
        schema = {**present, **{name: part for name, part in schema.items() if name != "anyOf"}}
    return {
        name: _plain(part)
        for name, part in schema.items()
        if not (name == "title" and isinstance(part, str)) and not (name == "default" and part is None)
    }
