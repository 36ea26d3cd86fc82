"""Anthropic's SDK for Python; tools by its own loop, `tool_runner`."""

from anthropic import Anthropic, APIStatusError, AuthenticationError, beta_tool
from cases import BAD_KEY, CALL, EMPTY_KEY, KEY, QUESTION, SERVER, SONNET, WEATHER, case, check, fails, run

ASKED = {"model": SONNET, "max_tokens": 500, "messages": [{"role": "user", "content": QUESTION}]}


def ask(key=KEY):
    return Anthropic(base_url=SERVER, api_key=key).messages.create(**ASKED).content[0].text


@case("answer")
def answer():
    check("sextant" in (found := ask()), found)
    counted = Anthropic(base_url=SERVER, api_key=KEY).messages.count_tokens(model=SONNET, messages=ASKED["messages"])
    check(counted.input_tokens > 0, counted)


@case("stream")
def stream():
    with Anthropic(base_url=SERVER, api_key=KEY).messages.stream(**ASKED) as events:
        pieces = list(events.text_stream)
        done = events.get_final_message()
    check(len(pieces) > 1 and "sextant" in "".join(pieces) and done.usage.output_tokens > 0, (pieces, done))


@beta_tool
def weather(city: str) -> str:
    """Tell the weather.

    Args:
        city: Where.
    """
    check(city == "Rome", city)
    return WEATHER


@case("tools")
def tools():
    asked = {**ASKED, "messages": [{"role": "user", "content": CALL}]}
    runner = Anthropic(base_url=SERVER, api_key=KEY).beta.messages.tool_runner(tools=[weather], **asked)
    found = [message.content[-1] for message in runner]
    check(len(found) == 2 and WEATHER in found[-1].text, found)


@case("401")
def unauthorized():
    check(isinstance(error := fails(ask, BAD_KEY, status=401), AuthenticationError), error)


@case("402")
def used_up():
    error = fails(ask, EMPTY_KEY, status=402)
    check(isinstance(error, APIStatusError) and "top up" in str(error), error)


run()
