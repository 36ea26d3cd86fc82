"""Claude Code, run once for each question, by the lines that the page shows."""

import time
from pathlib import Path

from cases import BAD_KEY, EMPTY_KEY, KEY, QUESTION, case, check, pasted, run

TOLD_WITHIN_S = 20
FOLDER = next(Path("node_modules/@anthropic-ai").resolve().glob("claude-code-*/claude")).parent


def claude(prompt, *words, key=KEY):
    return pasted("Claude Code", key, ["-p", prompt, *words], FOLDER, within_s=240)


@case("answer")
def answer():
    status, said = claude(QUESTION)
    check(status == 0 and "You said" in said and "sextant" in said, said)


@case("stream")
def stream():
    words = ["--output-format", "stream-json", "--verbose", "--include-partial-messages"]
    status, said = claude(QUESTION, *words)
    check(status == 0 and said.count('"text_delta"') > 1 and "sextant" in said, said[-1_000:])


@case("tools")
def tools():
    status, said = claude("[[run echo sextant-$((40 + 2))]]", "--allowedTools", "Bash")
    check(status == 0 and "sextant-42" in said, said)


@case("401")
def unauthorized():
    began_s = time.monotonic()
    status, said = claude(QUESTION, key=BAD_KEY)
    took_s = time.monotonic() - began_s
    check(status != 0 and "401" in said and took_s < TOLD_WITHIN_S, f"{said} after {took_s:.0f} s")


@case("402")
def used_up():
    status, said = claude(QUESTION, key=EMPTY_KEY)
    check(status != 0 and "top up" in said, said)


run()
