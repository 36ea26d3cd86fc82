"""Cases of a driver: each prints one line of JSON with `ok` or what was wrong."""

import asyncio
import inspect
import json
import os
import re
import shlex
import subprocess
import sys
import traceback
import urllib.request
from pathlib import Path

SERVER, KEY, EMPTY_KEY, BAD_KEY = (os.environ[name] for name in ("SERVER", "KEY", "EMPTY_KEY", "BAD_KEY"))
WAY = sys.argv[1]
SONNET, HAIKU = "claude-sonnet-5-5", "claude-haiku-5-5"
QUESTION = "Name three uses of a sextant."
CALL = '[[call weather {"city": "Rome"}]] How is the weather in Rome?'
WEATHER = "Rome has 21 degrees and rain"
_cases = {}


def case(name):
    """Make a function the case of this name."""

    def note(function):
        _cases[name] = function
        return function

    return note


def check(condition, found):
    """Fail with what was found unless the condition holds."""
    if not condition:
        raise AssertionError(f"found {found!r}")


def fails(function, *arguments, status=None, **named):
    """Return the error of a call that must fail, with this status if it has one."""
    try:
        found = function(*arguments, **named)
        if inspect.isawaitable(found):
            asyncio.run(_awaited(found))
    except Exception as error:
        seen = getattr(error, "status_code", None)
        if status is not None and seen != status:
            raise
        return error
    raise AssertionError("it did not fail")


async def _awaited(found):
    return await found


def program(words, environment, within_s=120, cwd=None, stdin=""):
    """Run a program, and return its status and all that it said."""
    done = subprocess.run(
        words,
        env={**os.environ, **environment},
        input=stdin,
        capture_output=True,
        text=True,
        timeout=within_s,
        cwd=cwd,
        check=False,
    )
    return done.returncode, re.sub(r"\x1b\[[0-9;]*m", "", done.stdout + done.stderr)


def pasted(name, key, words, path, within_s=120):
    """Paste the page's lines for a program into a shell, with more words at their end."""
    shown = {"origin": SERVER, "key": key, "model": SONNET, "smallModel": HAIKU}
    script = f"{Path(os.environ['PROGRAMS']).read_text()}\nconsole.log(JSON.stringify(programs({json.dumps(shown)})));"
    found = subprocess.run(["node", "--input-type=module", "-e", script], capture_output=True, text=True, check=True)
    lines = dict(json.loads(found.stdout))[name]
    environment = {"PATH": f"{path}{os.pathsep}{os.environ['PATH']}", "DISABLE_AUTOUPDATER": "1"}
    return program(["bash", "-euc", f"{lines} {shlex.join(words)}"], environment, within_s)


def payment_hash(invoice):
    """Return the hash in a BOLT11 invoice."""
    words = ["qpzry9x8gf2tvdw0s3jn54khce6mua7l".index(letter) for letter in invoice.rpartition("1")[2]]
    place = 7  # The time.
    while words[place] != 1:
        place += 3 + words[place + 1] * 32 + words[place + 2]
    bits = "".join(f"{word:05b}" for word in words[place + 3 : place + 55])
    return f"{int(bits[:256], 2):064x}"


def pay(invoice):
    """Pay as a wallet does, from the server's own stub node, and return the preimage."""
    asked = urllib.request.Request(f"{SERVER}/dev/stub/pay/{payment_hash(invoice)}", method="POST")
    with urllib.request.urlopen(asked) as answer:
        return json.load(answer)["preimage"]


def run():
    """Run the cases that were asked for."""
    for name in sys.argv[2:]:
        try:
            found = _cases[name]()
            if inspect.isawaitable(found):
                asyncio.run(_awaited(found))
            result = "ok"
        except BaseException as error:
            traceback.print_exc()
            result = f"{type(error).__name__}: {error}"[:600]
        sys.stdout.write("\n" + json.dumps({"case": name, "result": result}) + "\n")
        sys.stdout.flush()
