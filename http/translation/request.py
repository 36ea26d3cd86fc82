"""Parts of requests that OpenAI's APIs have in common, as parameters of the Messages API."""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Collection, Mapping
from typing import Any, Final, TypeVar

import msgspec

from ...actors.domain.errors import RefusedError
from ...actors.domain.llm.model_traits import Traits
from ..response.errors import invalid
from .json_schema import UnfitSchemaError, fitted

RequestT = TypeVar("RequestT")

JSON_ONLY: Final = (
    "Answer with a single JSON object and nothing else: no words around it, and no code fence. What is asked for is to "
    "be a field of it."
)
# Source: both APIs' references.
CHOICES: Final[Mapping[str, str]] = {"auto": "auto", "required": "any", "none": "none"}
# Values that mean the same as leaving the field out.
NOTHING: Final[Collection[Any]] = (None, False, 0, "", [], {})
MARK: Final = "cache_control"
# The Messages API's limit for one call.
_MARKS_MAX: Final = 4
_NO_PARAMETERS: Final = {"type": "object", "properties": {}}
_LEAST: Final = (None, "none", "minimal")
_USER_HEX_CHARS: Final = 32

_WHERE: Final = re.compile(r"^(?P<text>.*?)(?: - at `\$(?P<path>.*)`)?$", re.DOTALL)
_MISSING: Final = re.compile(r"^Object missing required field `(?P<name>\w+)`$")
# msgspec's own message for a wrong value quotes it at any length.
_WORDS: Final = {
    "role": "Must be system, developer, user, assistant or tool",
    "type": "There is no such type here",
}
_NO_SUCH_WORD: Final = "Must be one of the values that this field takes"


def decoded(body: bytes) -> dict[str, Any]:
    """Return the JSON object in a body. Raises `RefusedError`."""
    try:
        raw = msgspec.json.decode(body)
    except (ValueError, RecursionError):
        raise invalid("", "The body is not JSON that can be read") from None
    if not isinstance(raw, dict):
        raise invalid("", "Must be a JSON object")
    return raw


def converted(raw: dict[str, Any], kind: type[RequestT]) -> RequestT:
    """Return the request with the fields that have an effect. Raises `RefusedError` that names the first wrong one."""
    try:
        return msgspec.convert(raw, kind)
    except msgspec.ValidationError as error:
        raise _unfit(str(error)) from None
    except RecursionError:
        raise too_deep() from None


def too_deep() -> RefusedError:
    """Return the refusal of a body whose values are nested without end."""
    return invalid("", "The body is nested too deeply")


def encoded(body: Mapping[str, Any], stream: bool, max_tokens: int) -> bytes:
    """Return the whole body of a call."""
    return msgspec.json.encode({**body, **({"stream": True} if stream else {}), "max_tokens": max_tokens})


def refuse(raw: Mapping[str, Any], impossible: Mapping[str, str]) -> None:
    """Raise `RefusedError` for a field that would change the answer and is not supported; `impossible` says why."""
    for name, why in impossible.items():
        if raw.get(name) not in NOTHING:
            raise invalid(name, why)


def tool(
    name: str, description: str | None, parameters: dict[str, Any] | None, strict: bool, path: str
) -> dict[str, Any]:
    """Return a tool of the Messages API. Raises `RefusedError` that names `path` for a strict schema that is unfit."""
    schema = {"type": "object", **(parameters or _NO_PARAMETERS)}
    made: dict[str, Any] = {"name": name, "input_schema": schema_of(schema, path) if strict else schema}
    if description:
        made["description"] = description
    if strict:
        made["strict"] = True
    return made


def schema_of(schema: dict[str, Any], path: str) -> dict[str, Any]:
    """Return a schema that the API can enforce. Raises `RefusedError`."""
    try:
        return fitted(schema)
    except UnfitSchemaError as error:
        raise invalid(path, str(error)) from None


def sampling(temperature: float | None, top_p: float | None, traits: Traits, ignored: list[str]) -> dict[str, Any]:
    """Return the temperature or `top_p`: both at once are an error, also for models that sample. Both default to 1."""
    given = {"temperature": temperature, "top_p": top_p}
    sent = {name: value for name, value in given.items() if value is not None and value != 1}
    if not traits.sampling:
        ignored += sent
        return {}
    if len(sent) == 2:
        ignored.append("top_p")
        del sent["top_p"]
    # OpenAI's temperatures go to 2.
    return {name: min(value, 1.0) for name, value in sent.items()}


def output(
    effort: str | None, shape: dict[str, Any] | None, traits: Traits, ignored: list[str], field: str
) -> dict[str, Any]:
    """Return the fields for the amount of thinking and the shape of the answer; `field` names the effort.

    Clients of these APIs pay for the thinking without seeing it, and expect all of their limit for the answer. So a
    request without an effort gets the least thinking.
    """
    config: dict[str, Any] = {}
    made: dict[str, Any] = {}
    if effort in _LEAST:
        if traits.least_thinking is not None:
            made["thinking"] = dict(traits.least_thinking)
        elif effort is not None and traits.effort:
            config["effort"] = "low"
    elif traits.effort:
        config["effort"] = effort
    else:
        ignored.append(field)
    if shape is not None:
        config["format"] = {"type": "json_schema", "schema": shape}
    return {**made, "output_config": config} if config else made


def user_key(id_key: bytes, session_id: str | None) -> bytes:
    """Derive the key of the digests of one session's users."""
    return hmac.digest(id_key, f"user\n{session_id or ''}".encode(), hashlib.sha256)


def user(key: bytes, name: str | None) -> dict[str, Any]:
    """Return the metadata for a user: a digest, as clients send addresses, which the API refuses."""
    return {"metadata": {"user_id": user_digest(key, name)}} if name else {}


def user_digest(key: bytes, name: str) -> str:
    """Return the digest of a user's name, which goes on in its place."""
    return hmac.digest(key, name.encode(errors="replace"), hashlib.sha256).hex()[:_USER_HEX_CHARS]


def check_marks(made: Mapping[str, Any]) -> None:
    """Refuse more cache marks than the Messages API takes, before any money is put on hold."""
    found = marks_of(made)
    if found > _MARKS_MAX:
        raise invalid(MARK, f"At most {_MARKS_MAX} places can be marked for the cache; this request has {found}")


def marks_of(made: Mapping[str, Any]) -> int:
    """Return the number of cache marks of a body."""
    found = int(MARK in made) + _marks(made.get("tools")) + _marks(made.get("system"))
    return found + sum(_marks(turn["content"]) for turn in made["messages"])


def may_mark(made: Mapping[str, Any]) -> bool:
    """Return True if the body has room for another cache mark."""
    return marks_of(made) < _MARKS_MAX


def _marks(blocks: Any) -> int:
    """Return the number of cache marks of blocks, also inside a tool's result. A tool call's input is not a block."""
    if not isinstance(blocks, list):
        return 0
    return sum((MARK in block) + _marks(block.get("content")) for block in blocks)


def _unfit(told: str) -> RefusedError:
    found = _WHERE.match(told)
    assert found is not None
    text, path = found["text"], (found["path"] or "").lstrip(".")
    missing = _MISSING.match(text)
    if missing is not None:
        return invalid(f"{path}.{missing['name']}".lstrip("."), "This field is required")
    if text.startswith("Invalid "):
        text = _WORDS.get(path.rpartition(".")[2], _NO_SUCH_WORD)
    return invalid(path, text.replace("`", ""))
