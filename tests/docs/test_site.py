"""The site of the documentation: it is whole, strictly built, and a browser asks no other host for anything."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from satmeter.scripts import openapi_document
from tests.helpers import docs_site, installed

ROOT = Path(__file__).parents[2]
# What a browser loads by itself, by element.
LOADED = {"script": "src", "img": "src", "iframe": "src", "link": "href", "source": "srcset", "object": "data"}
# What the hooks make of files outside docs/.
MADE = {"start.md", "settings.md", "contributing.md", "security.md", "changelog.md", "deploy.md"}

SWAGGER_UI = {
    "swagger-ui-bundle.js": "e6a898692f2d768e807c3ba4626068a69a2c5dd960dd6c76f3e4d3a3de180af2",
    "swagger-ui.css": "5ed08757e53da3e026d6cbecc61fe5d43585c9560b302d534ad56692519a273d",
}


class _Loader(yaml.SafeLoader):
    """A loader that leaves the names of Python functions alone."""


_Loader.add_multi_constructor("tag:yaml.org,2002:python/", lambda loader, suffix, node: suffix)


def _config() -> dict[str, Any]:
    config: dict[str, Any] = yaml.load((ROOT / "mkdocs.yml").read_text(), _Loader)
    return config


def _pages(nav: Any) -> Iterator[str]:
    if isinstance(nav, str):
        yield nav
    else:
        for part in nav.values() if isinstance(nav, dict) else nav:
            yield from _pages(part)


class _Parser(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def _elements(file: Path) -> list[tuple[str, dict[str, str | None]]]:
    parser = _Parser()
    parser.feed(file.read_text())
    return parser.found


def test_the_navigation_names_every_document_once() -> None:
    named = list(_pages(_config()["nav"]))
    documents = {str(path.relative_to(ROOT / "docs")) for path in (ROOT / "docs").rglob("*.md")}
    assert sorted(named) == sorted({*documents, *MADE}), "add the page to `nav` in mkdocs.yml"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("docs") / "site"
    try:
        done = docs_site.build(folder)
    except installed.NotInstalledError as error:
        pytest.fail(f"{error}; the site can't be built.", pytrace=False)
    assert done.returncode == 0, done.stderr
    return folder


def test_a_link_and_an_anchor_that_lead_nowhere_fail_the_build(tmp_path: Path) -> None:
    for name in ("docs", "deploy"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("*.env"))
    for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md", "mkdocs.yml"):
        shutil.copy(ROOT / name, tmp_path / name)
    page = tmp_path / "docs/faq.md"
    page.write_text(page.read_text() + "\n[one](nowhere.md), [two](receipts.md#nowhere)\n")
    done = docs_site.build(tmp_path / "site", tmp_path)
    assert done.returncode != 0
    assert "'faq.md' contains a link 'nowhere.md'" in done.stderr
    assert "'receipts.md#nowhere'" in done.stderr


def test_no_page_loads_anything_from_another_host(site: Path) -> None:
    pages = list(site.rglob("*.html"))
    assert len(pages) > 45
    loaded = [
        (str(file.relative_to(site)), value)
        for file in pages
        for tag, attributes in _elements(file)
        if tag in LOADED and (value := attributes.get(LOADED[tag]))
    ]
    assert len(loaded) > 300
    assert [
        (page, value) for page, value in loaded if urlsplit(value).scheme not in ("", "data") or value.startswith("//")
    ] == []
    foreign = re.compile(r"(?:url\(|@import)\s*[\"']?(?:https?:)?//")
    assert [str(file.relative_to(site)) for file in site.rglob("*.css") if foreign.search(file.read_text())] == []


def test_links_to_other_hosts_are_whole_and_encrypted(site: Path) -> None:
    links = {
        str(attributes["href"])
        for file in site.rglob("*.html")
        for tag, attributes in _elements(file)
        if tag == "a" and re.match(r"[a-z]+:", attributes.get("href") or "")
    }
    assert len(links) > 5
    local = {link for link in links if urlsplit(link).hostname == "127.0.0.1"}
    assert [
        link for link in links - local if urlsplit(link).scheme != "https" or "." not in (urlsplit(link).hostname or "")
    ] == []


def test_the_reference_names_every_path_of_this_version(site: Path) -> None:
    document = openapi_document.document()
    assert json.loads((site / "openapi.json").read_text())["paths"].keys() == document["paths"].keys()
    text = (site / "api/index.html").read_text()
    ids = [operation["operationId"] for methods in document["paths"].values() for operation in methods.values()]
    assert len(ids) > 30
    assert [name for name in ids if f'id="{name}"' not in text] == []


def test_the_index_of_the_search_knows_the_words_of_the_api(site: Path) -> None:
    found = {
        entry["location"].partition("#")[0]
        for entry in json.loads((site / "search/search_index.json").read_text())["docs"]
        if "refund" in entry["text"].lower()
    }
    assert {"faq/", "http-api/", "api/", "guarantees/"} <= found


def test_the_site_keeps_no_key_and_no_source_of_its_own(site: Path) -> None:
    assert [str(file) for file in site.rglob("*") if file.suffix in (".py", ".env", ".md")] == []


def test_swagger_ui_is_the_one_that_was_looked_at() -> None:
    # npm's swagger-ui-dist 5.35.0, untouched, with its licences beside it.
    reference = ROOT / "docs/reference"
    digests = {name: hashlib.sha256((reference / name).read_bytes()).hexdigest() for name in SWAGGER_UI}
    assert digests == SWAGGER_UI
    assert "Apache License" in (reference / "LICENSE.txt").read_text()


def test_each_picture_is_shown_with_words_for_it_and_all_are_small() -> None:
    shown = re.findall(
        r"!\[([^\]]*)\]\(assets/([\w./-]+)\)", "".join(path.read_text() for path in (ROOT / "docs").glob("*.md"))
    )
    pictures = {str(path.relative_to(ROOT / "docs/assets")): path for path in (ROOT / "docs/assets/shots").iterdir()}
    assert {name for _, name in shown} == {*pictures, "how-it-works.svg"}
    assert [name for words, name in shown if len(words.split()) < 5] == []
    assert sum(path.stat().st_size for path in pictures.values()) < 2_000_000
