"""House rules that no linter knows: which way imports run, and how long, plain and finished the code is."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
PRODUCT = ("actors", "client", "config", "http", "scripts")
FOLDERS = (*PRODUCT, "tests")
FILES = {str(path.relative_to(ROOT)): path for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*.py"))}
CODE = [name for name in FILES if not name.startswith("tests/")]
TESTS = [name for name in FILES if name.startswith("tests/")]

FUNCTION_LINES_MAX = 70
FILE_LINES_MAX = 350

# What the domain may import. No clock, no randomness, no files, no network: the same input gives the same output.
PURE = frozenset(
    {
        "__future__", "base64", "binascii", "bisect", "collections", "dataclasses", "decimal", "enum", "fractions",
        "functools", "hashlib", "hmac", "itertools", "math", "operator", "re", "string", "struct", "types", "typing",
        "unicodedata", "msgspec", "pymacaroons", "btclib_secp256k1",
    }
)  # fmt: skip
# A library, and the only places that may know it.
KNOWN_ONLY_TO = {
    # The benchmark has a shell of its own started, which the product has no way to do.
    "ray": ("actors/cluster.py", "scripts/bench_direct.py"),
    "redis": ("actors/adapters/", "actors/compose.py", "scripts/"),
    "httpx": ("actors/adapters/", "actors/compose.py", "client/", "scripts/"),
    "anthropic": ("actors/adapters/", "scripts/"),
    "websockets": ("actors/adapters/",),
    "btclib_secp256k1": ("actors/adapters/", "actors/domain/"),
    "starlette": ("http/", "scripts/"),
    "uvicorn": ("scripts/",),
    "pydantic": ("http/", "config/", "scripts/"),
    "typer": ("scripts/",),
    "cryptography": ("http/signing.py", "scripts/"),
    "mcp": ("scripts/",),
}
# A folder (or file), and what of ours it must not import. The first that fits a file counts.
FORBIDDEN = [
    ("actors/domain/", ("actors/", "http/", "config/", "scripts/"), ("actors/domain/",)),
    ("actors/", ("client/", "http/", "scripts/"), ()),
    # It is used without a server beside it: of the server it shares only pure rules.
    ("client/", ("actors/", "http/", "config/", "scripts/"), ("actors/domain/",)),
    ("http/", ("client/", "actors/host", "actors/cluster", "actors/adapters/", "actors/compose", "scripts/"), ()),
    ("config/", ("actors/", "client/", "http/", "scripts/"), ("actors/domain/",)),
]
LEVELS = frozenset({"debug", "info", "warning", "error", "exception", "critical", "begins", "over"})
# Where the name of an event is made, or passed on: it is a constant where it comes from.
EVENTS_PASSED_ON = frozenset({"actors/watching.py", "actors/oracle.py", "actors/host.py", "actors/domain/alarms.py"})
# What takes the name of an event, or of what one is about, and logs it.
NAMED_BY = frozenset({"Outage", "Alarm"})
LOGGERS = ("log", "logger", "_trouble")
EVENT = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")
UNFINISHED = re.compile("|".join(("TO" + "DO", "FIX" + "ME", "XX" + "X")))


class Import(NamedTuple):
    """One imported module: `name` is a path from the root without .py for one of ours, else the library's name."""

    line: int
    ours: bool
    name: str


@cache
def text_of(name: str) -> str:
    return FILES[name].read_text()


@cache
def tree_of(name: str) -> ast.Module:
    return ast.parse(text_of(name), name)


@cache
def nodes_of(name: str) -> tuple[ast.AST, ...]:
    return tuple(ast.walk(tree_of(name)))


@cache
def imports_of(name: str) -> tuple[Import, ...]:
    return tuple(_imports(name))


def _imports(name: str) -> Iterator[Import]:
    for node in nodes_of(name):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield _absolute(node.lineno, alias.name)
        elif isinstance(node, ast.ImportFrom):
            # `from ..actors import cluster` may mean a module or a name in one: both are looked at.
            names = [f"{node.module}.{alias.name}" if node.module else alias.name for alias in node.names]
            for module in dict.fromkeys([*([node.module] if node.module else []), *names]):
                yield _relative(name, node, module) if node.level else _absolute(node.lineno, module)


def _absolute(line: int, module: str) -> Import:
    first, _, rest = module.partition(".")
    return Import(line, True, rest.replace(".", "/")) if first == "satmeter" else Import(line, False, module)


def _relative(name: str, node: ast.ImportFrom, module: str) -> Import:
    base = Path(name).parents[node.level - 1]
    return Import(node.lineno, True, str(base / module.replace(".", "/")))


def under(name: str, prefixes: tuple[str, ...]) -> bool:
    """Return whether a module is in one of these folders (ending in `/`) or is one of these modules."""
    return any(f"{name}/".startswith(prefix) if prefix.endswith("/") else name == prefix for prefix in prefixes)


def functions_of(name: str) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    return (node for node in nodes_of(name) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


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


def test_the_domain_knows_no_clock_no_chance_and_no_outside() -> None:
    domain = [name for name in CODE if name.startswith("actors/domain/")]
    imports = [
        f"{name}:{line} imports {module}"
        for name in domain
        for line, ours, module in imports_of(name)
        if not ours and module.partition(".")[0] not in PURE
    ]
    assert imports == []


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
    """What is logged, or handed to what logs it, and where."""
    for node in nodes_of(name):
        if not isinstance(node, ast.Call) or not node.args:
            continue
        whole = ast.unparse(node.func)
        of, _, method = whole.rpartition(".")
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
