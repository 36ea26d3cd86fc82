"""LiteLLM as a client."""

import json

import litellm
from cases import BAD_KEY, CALL, EMPTY_KEY, HAIKU, KEY, QUESTION, SERVER, WAY, WEATHER, case, check, fails, run

RESPONSES = WAY.startswith("responses")
FUNCTION = {
    "name": "weather",
    "description": "The weather somewhere.",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}
ASKED = [{"role": "user", "content": QUESTION}]


def options(key=KEY):
    if WAY.startswith("anthropic"):
        return {"model": f"anthropic/{HAIKU}", "api_base": SERVER, "api_key": key}
    return {"model": f"openai/{HAIKU}", "api_base": f"{SERVER}/v1", "api_key": key}


def ask(key=KEY):
    if RESPONSES:
        return litellm.responses(input=QUESTION, **options(key)).output_text
    return litellm.completion(messages=ASKED, **options(key)).choices[0].message.content


@case("answer")
def answer():
    found = ask()
    check("sextant" in found, found)


@case("stream")
def stream():
    if RESPONSES:
        events = litellm.responses(input=QUESTION, stream=True, **options())
        pieces = [event.delta for event in events if event.type == "response.output_text.delta"]
    else:
        chunks = litellm.completion(messages=ASKED, stream=True, **options())
        pieces = [chunk.choices[0].delta.content for chunk in chunks if chunk.choices[0].delta.content]
    check(len(pieces) > 1 and "sextant" in "".join(pieces), pieces)


@case("tools")
def tools():
    if RESPONSES:
        named = {**options(), "tools": [{"type": "function", **FUNCTION}]}
        items = [{"role": "user", "content": CALL}]
        first = litellm.responses(input=items, **named)
        (call,) = [item for item in first.output if item.type == "function_call"]
        items.append({"type": "function_call", "call_id": call.call_id, "name": call.name, "arguments": call.arguments})
        items.append({"type": "function_call_output", "call_id": call.call_id, "output": WEATHER})
        arguments, found = call.arguments, litellm.responses(input=items, **named).output_text
    else:
        named = {**options(), "tools": [{"type": "function", "function": FUNCTION}]}
        messages = [{"role": "user", "content": CALL}]
        first = litellm.completion(messages=messages, **named).choices[0].message
        (call,) = first.tool_calls
        messages += [first, {"role": "tool", "tool_call_id": call.id, "content": WEATHER}]
        arguments = call.function.arguments
        found = litellm.completion(messages=messages, **named).choices[0].message.content
    check(json.loads(arguments) == {"city": "Rome"} and WEATHER in found, (arguments, found))


@case("401")
def unauthorized():
    check(isinstance(error := fails(ask, BAD_KEY, status=401), litellm.AuthenticationError), error)


@case("402")
def used_up():
    error = fails(ask, EMPTY_KEY, status=402)
    check("top up" in str(error), error)


run()
