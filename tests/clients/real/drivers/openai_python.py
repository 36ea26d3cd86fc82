"""OpenAI's SDK for Python."""

import json

from cases import BAD_KEY, CALL, EMPTY_KEY, HAIKU, KEY, QUESTION, SERVER, WAY, WEATHER, case, check, fails, run
from openai import APIStatusError, AuthenticationError, OpenAI

RESPONSES = WAY == "responses"
PARAMETERS = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
FUNCTION = {"name": "weather", "description": "The weather somewhere.", "parameters": PARAMETERS}


def client(key=KEY):
    return OpenAI(base_url=f"{SERVER}/v1", api_key=key)


def ask(key=KEY):
    if RESPONSES:
        return client(key).responses.create(model=HAIKU, input=QUESTION).output_text
    asked = [{"role": "user", "content": QUESTION}]
    return client(key).chat.completions.create(model=HAIKU, messages=asked).choices[0].message.content


@case("answer")
def answer():
    found = ask()
    check("sextant" in found, found)


@case("stream")
def stream():
    if RESPONSES:
        with client().responses.stream(model=HAIKU, input=QUESTION) as events:
            pieces = [event.delta for event in events if event.type == "response.output_text.delta"]
            done = events.get_final_response()
        usage, whole = done.usage.output_tokens, done.output_text
    else:
        asked = [{"role": "user", "content": QUESTION}]
        options = {"include_usage": True}
        with client().chat.completions.stream(model=HAIKU, messages=asked, stream_options=options) as events:
            pieces = [event.delta for event in events if event.type == "content.delta"]
            done = events.get_final_completion()
        usage, whole = done.usage.completion_tokens, done.choices[0].message.content
    check(len(pieces) > 1 and "".join(pieces) == whole and "sextant" in whole and usage > 0, (pieces, whole, usage))


@case("tools")
def tools():
    if RESPONSES:
        options = {"model": HAIKU, "tools": [{"type": "function", "strict": False, **FUNCTION}]}
        items = [{"role": "user", "content": CALL}]
        first = client().responses.create(input=items, **options)
        (call,) = [item for item in first.output if item.type == "function_call"]
        items += [item.to_dict() for item in first.output]
        items.append({"type": "function_call_output", "call_id": call.call_id, "output": WEATHER})
        arguments, found = call.arguments, client().responses.create(input=items, **options).output_text
    else:
        options = {"model": HAIKU, "tools": [{"type": "function", "function": FUNCTION}]}
        messages = [{"role": "user", "content": CALL}]
        first = client().chat.completions.create(messages=messages, **options).choices[0].message
        (call,) = first.tool_calls
        messages += [first, {"role": "tool", "tool_call_id": call.id, "content": WEATHER}]
        second = client().chat.completions.create(messages=messages, **options)
        arguments, found = call.function.arguments, second.choices[0].message.content
    check(json.loads(arguments) == {"city": "Rome"} and WEATHER in found, (arguments, found))


@case("401")
def unauthorized():
    check(isinstance(error := fails(ask, BAD_KEY, status=401), AuthenticationError), error)


@case("402")
def used_up():
    error = fails(ask, EMPTY_KEY, status=402)
    check(isinstance(error, APIStatusError) and "top up" in str(error), error)


run()
