"""Documentation page, built from the OpenAPI document on the server.

It works offline and without a script, under a policy that lets the browser load nothing. The packages with a
browser application for this bring another web framework and megabytes of script, or are years old.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from html import escape
from typing import Any

from starlette.responses import Response

from .html import inline, page, prose

Json = Mapping[str, Any]


def docs(document: Json) -> Response:
    """Return the page of this document."""
    info = document["info"]
    parts = [
        f"<h1>{escape(info['title'])} API <span class='soft'>{escape(info['version'])}</span></h1>",
        prose(info["description"]),
        "<p><a href='/openapi.json'>OpenAPI document</a> · <a href='#schemas'>Schemas</a> · <a href='/'>Home</a></p>",
    ]
    for tag in document["tags"]:
        parts += [f"<h2>{escape(tag['name'])}</h2>", prose(tag["description"])]
        parts += [_operation(*found) for found in _operations(document) if tag["name"] in found[2]["tags"]]
    parts.append("<h2 id='schemas'>Schemas</h2>")
    parts += [_schema(name, schema) for name, schema in document["components"]["schemas"].items()]
    return page(f"{info['title']} API", "\n".join(parts))


def _operations(document: Json) -> Iterator[tuple[str, str, Json]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield method, path, operation


def _operation(method: str, path: str, operation: Json) -> str:
    body = operation.get("requestBody")
    parts = [
        f"<details id='{escape(operation['operationId'])}'><summary>",
        f"<span class='method {method}'>{method.upper()}</span> <span class='path'>{escape(path)}</span>",
        f"<span class='soft'>{escape(operation['summary'])}</span></summary><div>",
        prose(operation["description"]),
        "<p>Needs the session's macaroon.</p>" if "security" in operation else "",
        _parameters(operation["parameters"]) if "parameters" in operation else "",
        f"<h3>{'Body' if body['required'] else 'Body, optional'}</h3>{_content(body['content'])}" if body else "",
        "<h3>Answers</h3>",
        _table("Status", [(status, _response(answer)) for status, answer in operation["responses"].items()]),
        "</div></details>",
    ]
    return "".join(parts)


def _parameters(parameters: list[Json]) -> str:
    rows = [(f"<code>{escape(parameter['name'])}</code>", _parameter(parameter)) for parameter in parameters]
    return f"<h3>Parameters</h3>{_table('Name', rows)}"


def _parameter(parameter: Json) -> str:
    need = "Required" if parameter["required"] else "Optional"
    return f"{need}, in the {parameter['in']}: {_type(parameter['schema'])}<br>{inline(parameter['description'])}"


def _response(answer: Json) -> str:
    headers = " ".join(f"<code>{escape(name)}</code>" for name in answer["headers"])
    return (
        f"{inline(answer['description'])}<br><span class='soft'>Headers:</span> {headers}{_content(answer['content'])}"
    )


def _content(content: Json) -> str:
    parts = []
    for media_type, described in content.items():
        kind = f": {_type(described['schema'])}" if "schema" in described else ""
        parts.append(f"<div><code>{escape(media_type)}</code>{kind}</div>")
        # The errors' examples differ only in their code, which is shown beside them.
        if "example" in described and "requestId" not in described["example"]:
            parts.append(f"<pre><code>{_pretty(described['example'])}</code></pre>")
    return "".join(parts)


def _schema(name: str, schema: Json) -> str:
    required = schema.get("required", [])
    rows = [
        (
            f"<code>{escape(field)}</code>",
            f"{'' if field in required else 'Where it applies: '}{_type(described)}"
            + (f"<br>{inline(described['description'])}" if "description" in described else ""),
        )
        for field, described in schema.get("properties", {}).items()
    ]
    fields = _table("Field", rows) if rows else f"<p>{_type(schema)}</p>"
    return (
        f"<details id='{escape(name)}'><summary><span class='path'>{escape(name)}</span></summary>"
        f"<div>{prose(schema.get('description', ''))}{fields}</div></details>"
    )


def _type(schema: Json) -> str:
    """Return a short description of a schema, with links to the schemas that it names."""
    if "$ref" in schema:
        name = escape(schema["$ref"].rpartition("/")[2])
        return f"<a href='#{name}'>{name}</a>"
    if "anyOf" in schema:
        return " or ".join(_type(option) for option in schema["anyOf"])
    if "enum" in schema:
        return "one of " + ", ".join(f"<code>{escape(str(value))}</code>" for value in schema["enum"])
    if "const" in schema:
        return f"<code>{escape(json.dumps(schema['const']))}</code>"
    if schema.get("type") == "array":
        return f"list of {_type(schema['items'])}"
    if isinstance(values := schema.get("additionalProperties"), dict):
        return f"object of {_type(values)}"
    bounds = [f"{word} {schema[key]}" for key, word in _BOUNDS.items() if key in schema]
    kind = schema.get("format", schema.get("type", "anything"))
    return escape(", ".join([kind, *bounds]))


_BOUNDS = {
    "minimum": "at least",
    "maximum": "at most",
    "minLength": "length at least",
    "maxLength": "length at most",
    "pattern": "like",
}


def _pretty(example: Any) -> str:
    return escape(json.dumps(example, indent=2, ensure_ascii=False))


def _table(head: str, rows: list[tuple[str, str]]) -> str:
    body = "".join(f"<tr><td>{first}</td><td>{second}</td></tr>" for first, second in rows)
    return f"<table><thead><tr><th>{head}</th><th></th></tr></thead><tbody>{body}</tbody></table>"
