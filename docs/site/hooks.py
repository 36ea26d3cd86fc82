"""Hooks of the site's build: they make pages of files outside docs/, and links between all of them.

The Markdown in the repository stays as GitHub shows it. What differs on the site is made here, and nowhere else.
"""

from __future__ import annotations

import json
import os
import posixpath
import re
import subprocess
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[2]
# scripts/docs writes the OpenAPI document of this version there.
OPENAPI = Path(os.environ.get("DOCS_OPENAPI", ROOT / "build/openapi.json"))
# Where the README is cut: before it a page for newcomers, behind it the settings.
_CUT, _SETTINGS = "## Where to read on", "## Settings"
# Files outside docs/ and the pages that they become; of the README its beginning.
_PAGES = {
    "README.md": "start.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security.md",
    "CHANGELOG.md": "changelog.md",
    "deploy/README.md": "deploy.md",
}
# A reader who searches for "refund" wants to know how, before why it is so.
_BOOSTS = {
    "faq.md": 3,
    "buy.md": 2,
    "http-api.md": 2,
    "api.md": 1.5,
    "decisions": 0.2,
    "changelog.md": 0.2,
    "architecture.md": 0.5,
}
_LINK = re.compile(r"\[([^\[\]]*)\]\(([^)\s]+)\)")
_BLOCK = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
_METHODS = ("get", "post", "put", "patch", "delete")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are made of files outside docs/, and the files that are linked to."""
    for source, name in _PAGES.items():
        files.append(File.generated(config, name, content=_page_of(source)))
    files.append(File.generated(config, "settings.md", content=_settings()))
    for name in _deploy():
        files.append(File.generated(config, name, abs_src_path=str(ROOT / name)))
    files.append(File.generated(config, "openapi.json", content=_document_text()))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Turn links to files outside docs/ into links to what they have become here, and fill in the list of paths."""
    here = page.file.src_uri
    page.meta.setdefault("search", {})["boost"] = _BOOSTS.get(posixpath.dirname(here) or here, 1)
    source = next(
        (path for path, name in _PAGES.items() if name == here),
        "README.md" if here == "settings.md" else f"docs/{here}",
    )
    markdown = _outside_blocks(markdown, lambda text: _LINK.sub(lambda found: _moved(found, source, here), text))
    return markdown.replace("<!-- paths -->", _paths(json.loads(_document_text()))) if here == "api.md" else markdown


def on_post_page(output: str, page: Page, config: MkDocsConfig) -> str:
    """Give the theme's search a name, which screen readers say."""
    return output.replace(
        'data-md-component="search" role="dialog"', 'data-md-component="search" role="dialog" aria-label="Search"'
    )


def _page_of(source: str) -> str:
    text = (ROOT / source).read_text()
    if source == "README.md":
        text = text.partition(_CUT)[0].replace("# Satmeter\n", "# The first paid request\n", 1)
    if source == "deploy/README.md":
        lines = [f"- [{name.removeprefix('deploy/')}]({name.removeprefix('deploy/')})" for name in _deploy()]
        text = "\n".join([text.rstrip(), "", "## Every file", "", *lines, ""])
    return text


def _settings() -> str:
    table = (ROOT / "README.md").read_text().partition(_SETTINGS)[2]
    table = re.sub(r"</?details>|<summary>.*?</summary>|<!-- settings:\w+ -->\n", "", table)
    return f"# Settings\n\nEvery environment variable, its default and its meaning.\n{table}"


def _deploy() -> list[str]:
    """Return the files of deploy/ that git tracks: others beside them may hold keys."""
    words = ["git", "ls-files", "--", "deploy"]
    tracked = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False).stdout.split()
    return [name for name in tracked if not name.endswith(".md")]


def _outside_blocks(markdown: str, change: Any) -> str:
    """Apply `change` to everything but fenced code."""
    parts, at = [], 0
    for block in _BLOCK.finditer(markdown):
        parts += [change(markdown[at : block.start()]), block[0]]
        at = block.end()
    return "".join([*parts, change(markdown[at:])])


def _moved(found: re.Match[str], source: str, here: str) -> str:
    """Return the link with the target's address on the site. `source` is the page's own path in the repository."""
    path, mark, anchor = found[2].partition("#")
    if re.match(r"[a-z]+:", found[2]) or not path:
        return found[0]
    target = posixpath.normpath(posixpath.join(posixpath.dirname(source), path))
    if target == "README.md" and anchor == "settings":
        moved, mark, anchor = "settings.md", "", ""
    elif target in _PAGES:
        moved = _PAGES[target]
    elif target.startswith("deploy") and (ROOT / target).is_dir():
        moved = "deploy.md"
    elif target == "docs" or target.startswith("docs/"):
        moved = target.removeprefix("docs/")
    else:
        moved = target
    relative = os.path.relpath(moved, posixpath.dirname(here) or ".")
    # A file's name means little on the site.
    text = _title(target) if found[1] in (path, posixpath.basename(path)) and path.endswith(".md") else found[1]
    return f"[{text}]({relative}{mark}{anchor})"


@cache
def _title(path: str) -> str:
    """Return the first heading of a document, by its path in the repository."""
    # A document that does not exist is for the build to complain of, with the page that links to it.
    text = "" if not (ROOT / path).exists() else _page_of(path) if path in _PAGES else (ROOT / path).read_text()
    heading = re.search(r"^# (.+)$", text, re.MULTILINE)
    return heading[1] if heading else posixpath.basename(path)


def _document_text() -> str:
    if not OPENAPI.exists():
        raise PluginError(f"{OPENAPI} is missing: scripts/docs writes it")
    return OPENAPI.read_text()


def _paths(document: dict[str, Any]) -> str:
    """Return all operations by tag, so that the site's search finds each of them."""
    parts = ["[OpenAPI document](openapi.json)", ""]
    for tag in document["tags"]:
        parts += [f"## {tag['name']}", "", tag["description"], ""]
        for path, methods in document["paths"].items():
            for method in _METHODS:
                operation = methods.get(method)
                if operation and tag["name"] in operation["tags"]:
                    name = operation["operationId"]
                    reference = f"reference/index.html#/{quote(tag['name'])}/{name}"
                    parts += [
                        f"### `{method.upper()} {path}` {{ #{name} }}",
                        "",
                        f"**{operation['summary']}.** {operation['description']}",
                        "",
                        f"[Parameters, examples, try it]({reference})",
                        "",
                    ]
    return "\n".join(parts)
