"""pi, by each API that it speaks, run once for each question."""

import json
import os
from pathlib import Path

from cases import BAD_KEY, EMPTY_KEY, HAIKU, KEY, QUESTION, SERVER, WAY, case, check, program, run

PROGRAM = str(Path("node_modules/.bin/pi").resolve())
MODELS = Path(os.environ["HOME"]) / ".pi" / "agent" / "models.json"


def pi(prompt, key=KEY):
    base = SERVER if WAY == "anthropic-messages" else f"{SERVER}/v1"
    model = {"id": HAIKU, "contextWindow": 200_000, "maxTokens": 4_000}
    MODELS.parent.mkdir(parents=True, exist_ok=True)
    MODELS.write_text(
        json.dumps({"providers": {"satmeter": {"baseUrl": base, "api": WAY, "apiKey": key, "models": [model]}}})
    )
    words = [PROGRAM, "-p", "--provider", "satmeter", "--model", HAIKU, "--no-session", prompt]
    return program(words, {"PI_OFFLINE": "1"})


@case("answer")
def answer():
    status, said = pi(QUESTION)
    check(status == 0 and "You said" in said and "sextant" in said, said[-1_000:])


@case("tools")
def tools():
    status, said = pi("[[run echo sextant-$((40 + 2))]]")
    check(status == 0 and "sextant-42" in said.partition("The tool said")[2], said[-1_000:])


@case("401")
def unauthorized():
    status, said = pi(QUESTION, BAD_KEY)
    check(status != 0 and "macaroon" in said, said[-1_000:])


@case("402")
def used_up():
    status, said = pi(QUESTION, EMPTY_KEY)
    check(status != 0 and "top up" in said, said[-1_000:])


run()
