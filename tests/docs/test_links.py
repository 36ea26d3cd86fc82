"""Links between the documents, and from code to them: each leads to a file and a heading that exist."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
FOLDERS = ("actors", "client", "config", "deploy", "docs", "http", "scripts", "tests", ".ci")
DOCUMENTS = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "deploy").rglob("*.md")]
LINK = re.compile(r"\]\(([^)\s]+)\)")
# A document named in a comment, a docstring or a message.
NAMED = re.compile(r"(?<![\w./])((?:docs/[\w/-]+|README|CONTRIBUTING|SECURITY|CHANGELOG)\.md(?:#[\w-]+)?)")
BLOCK = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)


def _anchors(document: Path) -> set[str]:
    """Return the anchors that GitHub gives to the headings of a document, and those that it sets itself."""
    found: set[str] = set(re.findall(r'<a id="([\w-]+)"></a>', document.read_text()))
    for heading in re.findall(r"^#+ (.+)$", BLOCK.sub("", document.read_text()), re.MULTILINE):
        text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()
        found.add(re.sub(r"[^\w\- ]", "", text).replace(" ", "-"))
    return found


def _broken(target: str, start: Path) -> bool:
    path, _, anchor = target.partition("#")
    document = (start.parent / path).resolve() if path else start
    return not document.exists() or bool(anchor and document.suffix == ".md" and anchor not in _anchors(document))


def _code() -> Iterator[Path]:
    yield from (path for path in ROOT.glob("*") if path.is_file() and path.suffix in (".toml", ".md"))
    for folder in FOLDERS:
        for path in (ROOT / folder).rglob("*"):
            if (
                "node_modules" not in path.parts
                and path.is_file()
                and path.suffix in ("", ".py", ".sh", ".md", ".toml", ".yaml", ".yml", ".example", ".ts")
            ):
                yield path


def test_links_between_documents_lead_somewhere() -> None:
    links = [
        (path, target)
        for path in DOCUMENTS
        for target in LINK.findall(BLOCK.sub("", path.read_text()))
        if not re.match(r"[a-z]+:", target)
    ]
    assert len(links) > 40
    assert [f"{path.relative_to(ROOT)}: {target}" for path, target in links if _broken(target, path)] == []


def test_documents_that_code_names_exist() -> None:
    named = [
        (path, name)
        for path in _code()
        for name in NAMED.findall(path.read_text(errors="replace"))
        if path != Path(__file__)
    ]
    assert len(named) > 20
    # A name in the text is counted from the root, wherever the text is.
    assert [f"{path.relative_to(ROOT)}: {name}" for path, name in named if _broken(name, ROOT / "README.md")] == []


def test_the_index_of_decisions_names_every_page() -> None:
    folder = ROOT / "docs/decisions"
    listed = set(LINK.findall((folder / "README.md").read_text()))
    assert listed == {path.name for path in folder.glob("*.md")} - {"README.md"}
    assert [path.name for path in folder.glob("*.md") if len(path.read_text().splitlines()) > 150] == []
