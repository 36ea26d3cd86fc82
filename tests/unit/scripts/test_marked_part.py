"""Parts of documents that a program writes."""

from __future__ import annotations

import pytest

from satmeter.scripts.marked_part import insert_part

BEGIN, END = "<!-- it:begin -->", "<!-- it:end -->"


def test_what_stands_between_the_marks_is_replaced_and_all_else_stays() -> None:
    assert insert_part(f"a\n{BEGIN}\nold\n{END}\nb", "it", "new") == f"a\n{BEGIN}\nnew\n{END}\nb"


@pytest.mark.parametrize("document", ["", BEGIN, END, f"{END}{BEGIN}"])
def test_a_document_without_the_marks_is_an_error(document: str) -> None:
    with pytest.raises(ValueError, match="must stand in the document"):
        insert_part(document, "it", "new")
