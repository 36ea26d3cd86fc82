"""Codex CLI, run once for each question: by the lines that the page shows, or with `auth`."""

from pathlib import Path

from cases import BAD_KEY, EMPTY_KEY, KEY, QUESTION, SERVER, SONNET, WAY, case, check, pasted, program, run

FOLDER = Path("node_modules/.bin").resolve()
# Its sandbox needs rights of the kernel that a container may lack; the command only prints.
WORDS = ["exec", "--skip-git-repo-check", "--dangerously-bypass-approvals-and-sandbox"]
WITH_AUTH = WAY.endswith("auth")  # With this it asks the server for its models.
PROVIDER = {
    "model": f'"{SONNET}"',
    "model_provider": '"satmeter"',
    "model_providers.satmeter.name": '"Satmeter"',
    "model_providers.satmeter.base_url": f'"{SERVER}/v1"',
    "model_providers.satmeter.wire_api": '"responses"',
    "model_providers.satmeter.auth": '{command = "printenv", args = ["SATMETER_MACAROON"]}',
}


def codex(prompt, key=KEY):
    if not WITH_AUTH:
        return pasted("Codex", key, [*WORDS, prompt], FOLDER)
    settings = [word for name, value in PROVIDER.items() for word in ("-c", f"{name}={value}")]
    return program([str(FOLDER / "codex"), *WORDS, *settings, prompt], {"SATMETER_MACAROON": key})


@case("answer")
def answer():
    status, said = codex(QUESTION)
    check(status == 0 and "You said" in said and "sextant" in said, said[-1_000:])
    check(not WITH_AUTH or "metadata" not in said, said)


@case("tools")
def tools():
    status, said = codex("[[run echo sextant-$((40 + 2))]]")
    check(status == 0 and "The tool said" in said and "sextant-42" in said.partition("The tool said")[2], said[-1_000:])


@case("401")
def unauthorized():
    status, said = codex(QUESTION, BAD_KEY)
    check(status != 0 and "401" in said, said[-1_000:])


@case("402")
def used_up():
    status, said = codex(QUESTION, EMPTY_KEY)
    check(status != 0 and "402" in said and "top up" in said, said[-1_000:])


run()
