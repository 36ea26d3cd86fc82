"""opencode, with each kind of provider, run once for each question."""

import json
from pathlib import Path

from cases import BAD_KEY, EMPTY_KEY, HAIKU, KEY, QUESTION, SERVER, WAY, case, check, program, run

PROGRAM = str(Path("node_modules/opencode-linux-x64/bin/opencode").resolve())
MODEL = {HAIKU: {"name": HAIKU, "tool_call": True, "limit": {"context": 200_000, "output": 4_000}}}


def opencode(prompt, key=KEY):
    provider = {"options": {"baseURL": f"{SERVER}/v1", "apiKey": key}, "models": MODEL, "npm": WAY, "name": "Satmeter"}
    config = {"provider": {"satmeter": provider}, "small_model": f"satmeter/{HAIKU}", "autoupdate": False}
    folder = Path("project")
    folder.mkdir(exist_ok=True)
    environment = {
        "OPENCODE_CONFIG_CONTENT": json.dumps({**config, "permission": {"bash": "allow"}, "share": "disabled"}),
        "OPENCODE_DISABLE_MODELS_FETCH": "1",
    }
    words = [PROGRAM, "run", "--print-logs", "--log-level", "ERROR", "--model", f"satmeter/{HAIKU}", prompt]
    return program(words, environment, within_s=120, cwd=folder)


@case("answer")
def answer():
    status, said = opencode(QUESTION)
    check(status == 0 and "You said" in said and "sextant" in said, said[-1_000:])


@case("tools")
def tools():
    status, said = opencode("[[run echo sextant-$((40 + 2))]]")
    check(status == 0 and "sextant-42" in said.partition("The tool said")[2], said[-1_000:])


@case("401")
def unauthorized():
    _, said = opencode(QUESTION, BAD_KEY)
    check("Authorization header" in said or "macaroon" in said.lower(), said[-1_000:])


@case("402")
def used_up():
    _, said = opencode(QUESTION, EMPTY_KEY)
    check("top up" in said, said[-1_000:])


run()
