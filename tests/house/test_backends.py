"""House rule of the Lightning backends: their table is the only place that knows which there are."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from .source import CODE, nodes_of

KNOWS = re.compile(r"lnbits|phoenixd|nwc|\blnd\b|lnd_|lightningkind", re.IGNORECASE)
MAY_KNOW = (
    "actors/adapters/lnbits/",
    "actors/adapters/lnd/",
    "actors/adapters/phoenixd/",
    "actors/adapters/nwc/",
    # It is LNbits's client over a transport of its own.
    "actors/adapters/stub/",
    "actors/adapters/lightning/backend.py",
    "actors/adapters/lightning_backends.py",
    "config/settings.py",
    "config/lightning_kind.py",
    "config/secret_names.py",
    "config/held_secrets.py",
    # The wallets that clients pay from.
    "client/",
    "config/unknown_variables.py",
    "scripts/ask/",
    "scripts/load/",
)


def _words(name: str) -> Iterator[tuple[int, str]]:
    """Yield names and texts that run, with their lines: no comments and no docstrings."""
    nodes = nodes_of(name)
    docstrings = {
        id(node.body[0].value)
        for node in nodes
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    for node in nodes:
        match node:
            case ast.Constant(value=str(text), lineno=line) if id(node) not in docstrings:
                yield line, text
            case ast.Name(id=text, lineno=line) | ast.Attribute(attr=text, lineno=line):
                yield line, text
            case ast.ImportFrom(module=str(module), lineno=line, names=names):
                yield from ((line, text) for text in (module, *(alias.name for alias in names)))


def test_no_other_file_asks_which_backend_it_is() -> None:
    wrong = [
        f"{name}:{line} {text[:60]}"
        for name in CODE
        if not name.startswith(MAY_KNOW)
        for line, text in _words(name)
        if KNOWS.search(text)
    ]
    assert wrong == []
