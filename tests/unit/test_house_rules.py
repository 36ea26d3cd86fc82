"""House rules that no linter knows: which way imports run, and how long, plain and finished the code is."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = ("actors", "client", "http", "config", "scripts", "tests")
FILES = sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))
NAMES = [str(path.relative_to(ROOT)) for path in FILES]

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
UNFINISHED = re.compile("|".join(("TO" + "DO", "FIX" + "ME", "XX" + "X")))


class Import(NamedTuple):
    """One imported module: `path` from the root for one of ours (without .py), else the library's name."""

    line: int
    ours: bool
    name: str


@cache
def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(), str(path))


def _imports(path: Path) -> Iterator[Import]:
    for node in ast.walk(_tree(path)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield _absolute(node.lineno, alias.name)
        elif isinstance(node, ast.ImportFrom):
            # `from ..actors import cluster` may mean a module or a name in one: both are looked at.
            names = [f"{node.module}.{alias.name}" if node.module else alias.name for alias in node.names]
            for module in dict.fromkeys([*([node.module] if node.module else []), *names]):
                yield _relative(path, node, module) if node.level else _absolute(node.lineno, module)


def _absolute(line: int, module: str) -> Import:
    first, _, rest = module.partition(".")
    return Import(line, True, rest.replace(".", "/")) if first == "satmeter" else Import(line, False, module)


def _relative(path: Path, node: ast.ImportFrom, module: str) -> Import:
    base = path.relative_to(ROOT).parents[node.level - 1]
    return Import(node.lineno, True, str(base / module.replace(".", "/")))


def _is_under(name: str, prefixes: tuple[str, ...]) -> bool:
    return any(f"{name}/".startswith(prefix) if prefix.endswith("/") else name == prefix for prefix in prefixes)


def _functions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    return (node for node in ast.walk(_tree(path)) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def _calls(path: Path) -> Iterator[tuple[int, str]]:
    for node in ast.walk(_tree(path)):
        if isinstance(node, ast.Call):
            yield node.lineno, ast.unparse(node.func)


def _code(name: str) -> Path:
    return ROOT / name


@pytest.mark.parametrize("name", NAMES)
def test_imports_run_one_way(name: str) -> None:
    rule = next((rule for rule in FORBIDDEN if name.startswith(rule[0])), None)
    if rule is None:
        return
    _, forbidden, allowed = rule
    wrong = [
        f"{name}:{line} imports {target}"
        for line, ours, target in _imports(_code(name))
        if ours and _is_under(target, forbidden) and not _is_under(target, allowed)
    ]
    assert wrong == []


@pytest.mark.parametrize("name", [name for name in NAMES if name.startswith("actors/domain/")])
def test_the_domain_knows_no_clock_no_chance_and_no_outside(name: str) -> None:
    wrong = [
        f"{name}:{line} imports {module}"
        for line, ours, module in _imports(_code(name))
        if not ours and module.partition(".")[0] not in PURE
    ]
    assert wrong == []


@pytest.mark.parametrize("name", [name for name in NAMES if not name.startswith("tests/")])
def test_a_library_is_known_only_where_it_belongs(name: str) -> None:
    wrong = [
        f"{name}:{line} imports {module}"
        for line, ours, module in _imports(_code(name))
        if not ours
        for places in [KNOWN_ONLY_TO.get(module.partition(".")[0], (name,))]
        if not name.startswith(places)
    ]
    assert wrong == []


@pytest.mark.parametrize("name", NAMES)
def test_our_own_code_is_imported_as_satmeter_and_never_by_the_name_of_a_folder(name: str) -> None:
    # As `actors.x` a module would be loaded a second time, with classes unequal to those of `satmeter.actors.x`.
    wrong = [
        f"{name}:{line} imports {module}"
        for line, ours, module in _imports(_code(name))
        if not ours and module.partition(".")[0] in {"actors", "client", "config", "scripts"}
    ]
    assert wrong == []


@pytest.mark.parametrize("name", NAMES)
def test_functions_and_files_are_short_enough_to_read(name: str) -> None:
    path = _code(name)
    assert len(path.read_text().splitlines()) <= FILE_LINES_MAX
    long = [
        f"{name}:{function.lineno} {function.name}"
        for function in _functions(path)
        if (function.end_lineno or 0) - function.lineno >= FUNCTION_LINES_MAX
    ]
    assert long == []


@pytest.mark.parametrize("name", NAMES)
def test_nothing_is_left_for_later(name: str) -> None:
    assert UNFINISHED.findall(_code(name).read_text()) == []


@pytest.mark.parametrize("name", [name for name in NAMES if name.startswith("actors/domain/")])
def test_no_float_comes_near_money(name: str) -> None:
    path = _code(name)
    calls = [f"{name}:{line}" for line, function in _calls(path) if function == "float"]
    literals = [
        f"{name}:{node.lineno}"
        for node in ast.walk(_tree(path))
        if isinstance(node, ast.Constant) and isinstance(node.value, float)
    ]
    assert calls + literals == []


@pytest.mark.parametrize("name", [name for name in NAMES if name.startswith("tests/")])
def test_tests_wait_for_what_happens_and_not_for_time_to_pass(name: str) -> None:
    # `sleep(0)` only lets other tasks run.
    wrong = [
        f"{name}:{node.lineno}"
        for node in ast.walk(_tree(_code(name)))
        if isinstance(node, ast.Call)
        and ast.unparse(node.func).rpartition(".")[2] == "sleep"
        and not (node.args and isinstance(node.args[0], ast.Constant) and node.args[0].value == 0)
    ]
    assert wrong == []
