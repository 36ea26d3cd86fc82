"""Patterns of the document mean the same to its readers as to the server."""

from __future__ import annotations

import pytest
from pydantic import BaseModel, Field, ValidationError

from satmeter.http.schema import NOT_BLANK

# White space by ECMA-262 (its sections "White Space" and "Line Terminators"), by which readers take `\s`.
ECMA_SPACE = "\t\v\f\ufeff\n\r\u2028\u2029 \xa0\u1680\u202f\u205f\u3000" + "".join(map(chr, range(0x2000, 0x200B)))


class _Text(BaseModel):
    text: str = Field(pattern=NOT_BLANK)


def test_what_a_reader_of_the_document_takes_for_text_is_taken() -> None:
    assert NOT_BLANK == r"[^\s\u0085]"
    texts = {chr(number) for number in range(0x3100)} - set(ECMA_SPACE) - {"\x85"}
    for text in texts:
        assert _Text(text=text).text == text


@pytest.mark.parametrize("text", ["", " \n\t", "\x85", " \x85\u2028\xa0"])
def test_white_space_alone_is_refused(text: str) -> None:
    with pytest.raises(ValidationError):
        _Text(text=text)
