"""Part of a document that a program writes, between two marks."""

from __future__ import annotations


def insert_part(document: str, name: str, text: str) -> str:
    """Return the document with this text between the marks of that name. Raises `ValueError` when a mark is missing."""
    begin, end = f"<!-- {name}:begin -->", f"<!-- {name}:end -->"
    before, begun, rest = document.partition(begin)
    _, ended, after = rest.partition(end)
    if not begun or not ended:
        raise ValueError(f"the marks {begin} and {end} must stand in the document")
    return f"{before}{begin}\n{text}\n{end}{after}"
