"""HTML pages, and headers that hold the browser to what they are.

`page` loads nothing and has no script. `application` loads style sheets and modules of this server alone.
"""

from __future__ import annotations

import base64
import hashlib
import re
from html import escape
from typing import Final

from starlette.responses import Response

_STYLE: Final = """
:root { color-scheme: light dark; --ink: #1c1b19; --soft: #6b675f; --paper: #fdfcf9; --line: #e4e0d6;
  --card: #fff; --code: #f4f1e9; --accent: #b45309; --get: #0f766e; --post: #9a3412; }
@media (prefers-color-scheme: dark) { :root { --ink: #ece8df; --soft: #a39d90; --paper: #171613; --line: #35322b;
  --card: #1f1d19; --code: #292620; --accent: #f59e0b; --get: #5eead4; --post: #fdba74; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 56rem; padding: 2rem 1.25rem 6rem; color: var(--ink); background: var(--paper);
  font: 16px/1.6 system-ui, sans-serif; }
h1 { font-size: 2rem; line-height: 1.2; margin: 0 0 .5rem; } h2 { margin: 3rem 0 .5rem; font-size: 1.35rem; }
h3 { margin: 1.5rem 0 .5rem; font-size: 1rem; } p { margin: .5rem 0; } a { color: var(--accent); }
.soft { color: var(--soft); } nav ul { list-style: none; padding: 0; margin: .25rem 0 1rem; }
code, pre { font: .875em/1.5 ui-monospace, monospace; background: var(--code); border-radius: 4px; }
code { padding: .1em .3em; overflow-wrap: anywhere; } pre { padding: .9rem 1rem; overflow-x: auto; }
pre code { padding: 0; background: none; overflow-wrap: normal; }
details { border: 1px solid var(--line); border-radius: 8px; background: var(--card); margin: .75rem 0; }
summary { cursor: pointer; padding: .75rem 1rem; } details > div { padding: 0 1rem 1rem; }
.method { font: 700 .8em ui-monospace, monospace; display: inline-block; min-width: 3.2em; color: var(--get); }
.post { color: var(--post); } .path { font: 600 .95em ui-monospace, monospace; margin-right: .75rem;
  overflow-wrap: anywhere; }
table { border-collapse: collapse; width: 100%; font-size: .925rem; display: block; overflow-x: auto; }
th, td { text-align: left; vertical-align: top; padding: .4rem .75rem .4rem 0; border-top: 1px solid var(--line); }
th { color: var(--soft); font-weight: 500; border-top: 0; }
.ways { display: flex; flex-wrap: wrap; gap: .6rem; margin: 1.5rem 0; }
.button { display: inline-flex; align-items: center; min-height: 46px; padding: .5rem 1.15rem; border-radius: 12px;
  border: 1px solid currentcolor; font-weight: 600; text-decoration: none; }
"""
_STYLE_HASH: Final = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
_NOTHING_ELSE: Final = "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
_COMMON: Final = {
    "Cross-Origin-Opener-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Frame-Options": "DENY",
    "Cache-Control": "no-cache",
}
_HEADERS: Final = {
    "Content-Security-Policy": (
        f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; img-src data:; {_NOTHING_ELSE}"
    ),
    **_COMMON,
}
# Trusted types: no text becomes markup or script, whatever a module does.
_APPLICATION_HEADERS: Final = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
        f"require-trusted-types-for 'script'; {_NOTHING_ELSE}"
    ),
    **_COMMON,
}
_POLICY: Final = "Content-Security-Policy"
_FORM_HEADERS: Final = {
    **_APPLICATION_HEADERS,
    _POLICY: _APPLICATION_HEADERS[_POLICY].replace("form-action 'none'", "form-action 'self'"),
}


def page(title: str, body: str) -> Response:
    """Return a whole page. `body` is HTML, `title` is text."""
    body = f"<main>\n{body}\n</main>"
    return Response(_document(title, f"<style>{_STYLE}</style>", body), headers=_HEADERS, media_type="text/html")


def application(title: str, body: str, *, styles: str, module: str, more: str = "", forms: bool = False) -> Response:
    """Return a page with style sheets and a module, by their addresses here. `body` is HTML, `title` is text.

    `more` is a second style sheet. `forms`: the page sends forms to this server without a module.
    """
    links = "".join(f'<link rel="stylesheet" href="{escape(each)}">\n' for each in (styles, more) if each)
    head = f'{links}<script type="module" src="{escape(module)}"></script>'
    headers = _FORM_HEADERS if forms else _APPLICATION_HEADERS
    return Response(_document(title, head, body), headers=headers, media_type="text/html")


def _document(title: str, head: str, body: str) -> str:
    # The empty icon keeps browsers from requesting one.
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        # Safari would make links to call of sums and ids.
        '<meta name="format-detection" content="telephone=no">\n'
        f'<title>{escape(title)}</title>\n<link rel="icon" href="data:,">\n{head}\n</head>\n'
        f"<body>\n{body}\n</body>\n</html>\n"
    )


def prose(text: str) -> str:
    """Convert text with `code` in it to HTML; an empty line begins a paragraph."""
    return "".join(f"<p>{inline(part)}</p>" for part in text.split("\n\n"))


def inline(text: str) -> str:
    """Convert text with `code` in it to HTML inside a paragraph."""
    return re.sub("`([^`]+)`", r"<code>\1</code>", escape(text))
