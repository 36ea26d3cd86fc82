"""Source files of the project as syntax trees, for the tests that hold the rules of the house."""

from __future__ import annotations

import ast
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
