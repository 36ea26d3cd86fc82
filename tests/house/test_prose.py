"""The rule for prose, as far as a test can hold it. CONTRIBUTING.md has the whole."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

from .source import CODE, ROOT, TESTS, nodes_of, text_of

# Words that made sentences hard to read here, each with the plain one.
BANNED = {
    r"\bwhoever\b": "a client, a caller",
    r"\bnobody's\b": "unowned",
    r"\banew\b": "again",
    r"(?<!there )\bis no (?!longer\b|more\b|less\b)[a-z]": "is not a",
    r"\bthe one way\b": "the only way",
    r"\bin doubt\b": "outcome unknown",
}
BANNED_IN_MESSAGES = BANNED | {
    r"\b(tell|tells|told) of\b": "report, mention",
    r"\bis none of\b": "is not one of",
    r"\b(stands|lies) (in|behind|at)\b": "is in",
    r"\bwho comes\b": "a client",
}
# What is asked of a model, and not of a person.
PROMPTS = "actors/domain/llm/prompts.py"
FIRST_WORDS = re.compile(r"(What|Who|Whose|Whoever|Where|How|When|Whether|It|They|The same|Nothing|Never|This|That)\b")


def _docstrings(name: str) -> Iterator[tuple[int, str]]:
    for node in nodes_of(name):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            text = ast.get_docstring(node)
            if text:
                yield getattr(node, "lineno", 1), text
        if isinstance(node, ast.ClassDef):
            for entry in node.body[1:]:
                # A field's text stands behind it.
                if isinstance(entry, ast.Expr) and isinstance(entry.value, ast.Constant):
                    yield entry.lineno, str(entry.value.value)


def _comments(name: str) -> Iterator[tuple[int, str]]:
    for token in tokenize.generate_tokens(io.StringIO(text_of(name)).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string


def _sentences(name: str) -> Iterator[tuple[int, str]]:
    """Yield the string constants that hold words for a person: messages, helps, hints."""
    documented = {
        id(node.value) for node in nodes_of(name) if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    for node in nodes_of(name):
        if (
            isinstance(node, ast.Constant)
            and isinstance(node.value, str)
            and id(node) not in documented
            and len(node.value.split()) >= 3
        ):
            yield node.lineno, node.value


def test_a_docstring_begins_with_a_verb_or_the_noun_that_one_would_search_for() -> None:
    wrong = [
        f"{name}:{line} {text[:40]}"
        for name in [*CODE, *TESTS]
        for line, text in _docstrings(name)
        if FIRST_WORDS.match(text)
    ]
    assert wrong == []


def test_docstrings_and_comments_use_plain_words() -> None:
    wrong = [
        f"{name}:{line} {pattern} -> {plain}"
        for name in [*CODE, *TESTS]
        for line, text in [*_docstrings(name), *_comments(name)]
        for pattern, plain in BANNED.items()
        if re.search(pattern, text, re.IGNORECASE)
    ]
    assert wrong == []


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def test_documents_use_plain_words() -> None:
    documents = [*(ROOT / "docs").rglob("*.md"), *_files(ROOT / "deploy"), *ROOT.glob("*.md")]
    wrong = [
        f"{path.relative_to(ROOT)} {found[0]} -> {plain}"
        for path in documents
        for pattern, plain in BANNED_IN_MESSAGES.items()
        for found in re.finditer(pattern, path.read_text(), re.IGNORECASE)
    ]
    assert wrong == []


def test_messages_to_people_use_plain_words() -> None:
    wrong = [
        f"{name}:{line} {pattern} -> {plain}"
        for name in CODE
        if name != PROMPTS
        for line, text in _sentences(name)
        for pattern, plain in BANNED_IN_MESSAGES.items()
        if re.search(pattern, text, re.IGNORECASE)
    ]
    assert wrong == []
