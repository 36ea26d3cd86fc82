"""House rules that no linter knows: which way imports run, and how long, plain and finished the code is."""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from .source import CODE, FILES, PRODUCT, TESTS, functions_of, imports_of, nodes_of, text_of, under

FUNCTION_LINES_MAX = 70
FILE_LINES_MAX = 500
FOLDER_MODULES_MAX = 24
TEST_NAME_CHARS_MAX = 100

# What the domain may import. No clock, no randomness, no files, no network: the same input gives the same output.
PURE = frozenset(
    {
        "__future__", "base64", "binascii", "bisect", "collections", "dataclasses", "datetime", "decimal", "enum",
        "fractions", "functools", "hashlib", "hmac", "itertools", "json", "math", "operator", "re", "string", "struct",
        "types", "typing", "typing_extensions", "unicodedata", "msgspec", "pymacaroons", "btclib_secp256k1",
    }
)  # fmt: skip
# Clocks by any name: `datetime` is a type here, and must tell the domain neither the time nor the machine's zone.
CLOCKS = frozenset(
    {"now", "utcnow", "today", "time", "time_ns", "monotonic", "fromtimestamp", "astimezone", "localtime"}
)
# A library, and the only places that may know it.
KNOWN_ONLY_TO = {
    "ray": ("actors/cluster.py",),
    "hiredis": ("actors/adapters/redis/",),
    "httpcore": ("actors/adapters/",),
    "redis": ("actors/adapters/", "actors/bootstrap.py", "scripts/"),
    "httpx": ("actors/adapters/", "actors/bootstrap.py", "client/", "scripts/"),
    "anthropic": ("actors/adapters/", "scripts/"),
    "websockets": ("actors/adapters/",),
    "btclib_secp256k1": ("actors/adapters/", "actors/domain/"),
    "starlette": ("http/", "scripts/"),
    "uvicorn": ("http/protocol.py", "http/edge/endings.py", "scripts/"),
    "pydantic": ("http/", "config/", "scripts/"),
    "typer": ("scripts/",),
    "cryptography": ("http/payments/pay_pages.py", "http/receipts/signing.py", "scripts/"),
    "mcp": ("scripts/",),
}
# What stands above the actors.
ABOVE = ("client/", "http/", "scripts/")
# A folder (or file), what of ours it must not import, and the exceptions. The first that fits a file counts.
FORBIDDEN = [
    ("actors/domain/", ("actors/", "http/", "config/", "scripts/"), ("actors/domain/",)),
    (
        "actors/host/",
        ("actors/router/", "actors/dedicated/", "actors/placement/", "actors/services/", "actors/adapters/", *ABOVE),
        (),
    ),
    ("actors/adapters/", ("actors/router/", "actors/host/", "actors/services/", *ABOVE), ()),
    ("actors/", ABOVE, ()),
    # It is used without a server beside it: of the server it shares only pure rules.
    ("client/", ("actors/", "http/", "config/", "scripts/"), ("actors/domain/",)),
    ("http/", ("client/", "actors/host/", "actors/cluster", "actors/adapters/", "actors/bootstrap", "scripts/"), ()),
    ("config/", ("actors/", "client/", "http/", "scripts/"), ()),
    ("scripts/benchmarks/", (), ()),
    ("scripts/supply_chain/", (), ()),
    # The wheel is without them.
    ("scripts/", ("scripts/benchmarks/", "scripts/supply_chain/"), ()),
]
LEVELS = frozenset({"debug", "info", "warning", "error", "exception", "critical", "begins", "over"})
# Where the name of an event is made, or passed on: it is a constant where it comes from.
EVENTS_PASSED_ON = frozenset(
    {
        "actors/services/watch.py",
        "actors/services/oracle.py",
        "actors/host/mailbox.py",
        "actors/domain/llm/billing_alarms.py",
        "http/protocol.py",
    }
)
# What takes the name of an event, or of what one is about, and logs it.
NAMED_BY = frozenset({"Outage", "Alarm", "tell_step"})
LOGGERS = ("log", "logger", "_trouble")
EVENT = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")
# It has no logging, and writes its few entries itself.
LAUNCHER = "scripts/server/launcher.py"
UNFINISHED = re.compile("|".join(("TO" + "DO", "FIX" + "ME", "XX" + "X")))


def test_imports_run_one_way() -> None:
    wrong = []
    for name in CODE:
        rule = next((rule for rule in FORBIDDEN if name.startswith(rule[0])), None)
        if rule is not None:
            _, forbidden, allowed = rule
            wrong += [
                f"{name}:{line} imports {target}"
                for line, ours, target in imports_of(name)
                if ours and under(target, forbidden) and not under(target, allowed)
            ]
    assert wrong == []


def test_no_modules_import_each_other_in_a_circle() -> None:
    assert _circle(_imports()) == []


def test_no_folders_import_each_other_in_a_circle() -> None:
    """A module beside folders counts by itself: it may put those together, or be what all of them use."""
    with_folders = {str(Path(name).parent.parent) for name in CODE}

    def unit(module: str) -> str:
        folder = str(Path(module).parent)
        return module if folder in with_folders else folder

    edges: dict[str, set[str]] = {}
    for module, targets in _imports().items():
        edges.setdefault(unit(module), set()).update(map(unit, targets))
    assert _circle(edges) == []


def _imports() -> dict[str, set[str]]:
    """Return which modules each module imports when it runs."""
    modules = {name.removesuffix(".py") for name in CODE}
    return {
        name.removesuffix(".py"): {
            target
            for line, ours, target in imports_of(name)
            if ours and target in modules and line not in _lines_for_types(name)
        }
        for name in CODE
    }


def _lines_for_types(name: str) -> set[int]:
    """Return the lines that only a type checker reads."""
    return {
        line
        for node in nodes_of(name)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for line in range(node.lineno, (node.end_lineno or node.lineno) + 1)
    }


def _circle(edges: dict[str, set[str]]) -> list[str]:
    """Return what is left when modules that import none of the rest are taken away, again and again."""
    left = {name: set(targets) - {name} for name, targets in edges.items()}
    while free := {name for name, targets in left.items() if not targets}:
        left = {name: targets - free for name, targets in left.items() if name not in free}
    return sorted(left)


def test_the_domain_knows_no_clock_no_chance_and_no_outside() -> None:
    domain = [name for name in CODE if name.startswith("actors/domain/")]
    imports = [
        f"{name}:{line} imports {module}"
        for name in domain
        for line, ours, module in imports_of(name)
        if not ours and module.partition(".")[0] not in PURE
    ]
    clocks = [
        f"{name}:{node.lineno} {node.attr}"
        for name in domain
        for node in nodes_of(name)
        if isinstance(node, ast.Attribute) and node.attr in CLOCKS
    ]
    assert imports + clocks == []


def test_no_float_comes_near_money() -> None:
    wrong = [
        f"{name}:{node.lineno}"
        for name in CODE
        if name.startswith("actors/domain/")
        for node in nodes_of(name)
        if (isinstance(node, ast.Call) and ast.unparse(node.func) == "float")
        or (isinstance(node, ast.Constant) and isinstance(node.value, float))
    ]
    assert wrong == []


def test_a_library_is_known_only_where_it_belongs() -> None:
    wrong = [
        f"{name}:{line} imports {module}"
        for name in CODE
        for line, ours, module in imports_of(name)
        if not ours and not name.startswith(KNOWN_ONLY_TO.get(module.partition(".")[0], (name,)))
    ]
    assert wrong == []


def test_our_own_code_is_imported_as_satmeter_and_never_by_the_name_of_a_folder() -> None:
    # As `actors.x` a module would be loaded a second time, with classes unequal to those of `satmeter.actors.x`.
    wrong = [
        f"{name}:{line} imports {module}"
        for name in FILES
        for line, ours, module in imports_of(name)
        if not ours and module.partition(".")[0] in set(PRODUCT) - {"http"}
    ]
    assert wrong == []


def test_files_and_functions_are_short_enough_to_read() -> None:
    files = [name for name in FILES if len(text_of(name).splitlines()) > FILE_LINES_MAX]
    functions = [
        f"{name}:{function.lineno} {function.name}"
        for name in FILES
        for function in functions_of(name)
        if (function.end_lineno or 0) - function.lineno >= FUNCTION_LINES_MAX
    ]
    assert files + functions == []


def test_no_folder_holds_more_modules_than_a_reader_can_scan() -> None:
    counts = Counter(str(Path(name).parent) for name in CODE)
    assert {folder: count for folder, count in counts.items() if count > FOLDER_MODULES_MAX} == {}


def test_unit_tests_stand_where_the_code_stands() -> None:
    modules = {name.removesuffix(".py") for name in CODE}
    folders = {str(Path(name).parent) for name in CODE}
    wrong = []
    for name in TESTS:
        path = Path(name)
        if name.startswith("tests/unit/") and path.name.startswith("test_"):
            folder = str(path.parent.relative_to("tests/unit"))
            words = path.stem.removeprefix("test_").split("_")
            stems = ["_".join(words[:count]) for count in range(1, len(words) + 1)]
            # A package is tested as a whole, too, by what its import loads.
            named = {f"{folder}/{stem}" for stem in stems} | ({f"{folder}/__init__"} if words == ["import"] else set())
            if folder not in folders or not named & modules:
                wrong.append(name)
    assert wrong == []


def test_nothing_is_left_for_later() -> None:
    assert [name for name in FILES if UNFINISHED.search(text_of(name))] == []


def test_tests_wait_for_what_happens_and_not_for_time_to_pass() -> None:
    # `sleep(0)` only lets other tasks run.
    wrong = [
        f"{name}:{node.lineno}"
        for name in TESTS
        for node in nodes_of(name)
        if isinstance(node, ast.Call)
        and ast.unparse(node.func).rpartition(".")[2] == "sleep"
        and not (node.args and isinstance(node.args[0], ast.Constant) and node.args[0].value == 0)
    ]
    assert wrong == []


def _events(name: str) -> Iterator[tuple[int, ast.expr]]:
    """Yield the event of each log call, or of what logs it, with its line."""
    for node in nodes_of(name):
        if not isinstance(node, ast.Call) or not node.args:
            continue
        whole = ast.unparse(node.func)
        of, _, method = whole.rpartition(".")
        if name == LAUNCHER and method == "_say":
            yield node.lineno, node.args[0]
        if of.lower().endswith(LOGGERS) and method == "log":
            yield node.lineno, node.args[1]
        elif (of.lower().endswith(LOGGERS) and method in LEVELS) or method in NAMED_BY:
            yield node.lineno, node.args[0]


def _is_event(name: str, found: ast.expr) -> bool:
    if isinstance(found, ast.IfExp):
        return _is_event(name, found.body) and _is_event(name, found.orelse)
    if isinstance(found, ast.Constant):
        return isinstance(found.value, str) and EVENT.fullmatch(found.value) is not None
    return name in EVENTS_PASSED_ON


def test_what_is_logged_is_an_event_by_a_constant_name() -> None:
    # Alerts and searches go by it; what differs from entry to entry is a field.
    events = [(name, line, found) for name in CODE for line, found in _events(name)]
    assert len(events) > 80
    assert [f"{name}:{line}: {ast.unparse(found)}" for name, line, found in events if not _is_event(name, found)] == []


def test_what_differs_from_entry_to_entry_is_a_field_by_a_plain_name() -> None:
    wrong = []
    for name in CODE:
        for node in nodes_of(name):
            of, _, method = ast.unparse(node.func).rpartition(".") if isinstance(node, ast.Call) else ("", "", "")
            if not of.lower().endswith(LOGGERS) or method not in LEVELS | {"log"}:
                continue
            assert isinstance(node, ast.Call)
            fields = [word.arg for word in node.keywords if word.arg is not None]
            if len(node.args) > (2 if method == "log" else 1) or not all(map(EVENT.fullmatch, fields)):
                wrong.append(f"{name}:{node.lineno}")
    assert wrong == []
