"""Estimates of the tokens in a text that no provider has counted, such as an answer that was cut off.

No tokenizer's vocabulary is at hand, so kinds of characters are weighed. The weights were fitted to counts of public
tokenizers, over prose, notes, programs, tables of figures and the scripts of twenty languages.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

# English words that are one token in every vocabulary; they distinguish English from other languages in Latin letters.
_COMMON: Final = frozenset(
    re.findall(
        r"\w+",
        """
    a about after all also an and any are as at be because been before between but by can code could data do each end
    example file first following for from function get has have he her him his how i if in into is it its just let like
    made make many may more most must my name need new no not now number of on one only or other our out over part
    people return same see set she should so some string such system than that the their them then there these they
    this time to two up us use used user using value was way we well were what when where which while who will with
    work would year you your
    """,
    )
)
_MARK: Final = r"[!-/:-@\[-`{-~]"
_KINDS: Final = re.compile(
    rf"""
    (?P<word>[A-Z]?[a-z]+)|(?P<capitals>[A-Z]+(?![a-z])|[A-Z])
    # Each vocabulary takes digits by threes, and a space or a mark beside them by itself.
    |(?P<digits>[0-9]{{1,3}})|(?P<by_digits>[ ](?=[0-9])|{_MARK}(?=[0-9])|(?<=[0-9]){_MARK})
    |(?P<lines>[ \t]*(?:\r?\n[ \t]*)+)|(?P<spaces>[ \t]{{2,}})
    |(?P<space>[ \t](?=[A-Za-z\u00c0-\U0010ffff]))|(?P<space_by_mark>[ \t])
    |(?P<repeated>(?P<one>{_MARK})(?P=one){{2,}})|(?P<mark_by_mark>{_MARK}(?={_MARK}))|(?P<mark>{_MARK})
    |(?P<accented>[\u00aa\u00b5\u00ba\u00c0-\u024f\u0300-\u036f\u1e00-\u1eff]+)
    |(?P<cyrillic>[\u0400-\u052f]+)|(?P<greek>[\u0370-\u03ff\u1f00-\u1fff]+)
    |(?P<arabic>[\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufefe]+)
    |(?P<kana>[\u3040-\u30ff\u31f0-\u31ff\uff66-\uff9f]+)
    |(?P<han>[\u2e80-\u2fdf\u3005-\u3007\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]+)
    |(?P<hangul>[\u1100-\u11ff\u3130-\u318f\uac00-\ud7af]+)
    |(?P<symbol>[\u0080-\u2e7f\u3000-\u303f\ufe30-\ufe6f\uff00-\uff65])|(?P<other>.)
    """,
    re.VERBOSE | re.DOTALL,
)


class _Weights(NamedTuple):
    """Weights by kind of piece, in hundredths of a token."""

    word: int
    word_over_3: int
    word_over_9: int
    letters_over_11: int
    common: int
    title: int
    capitals: int
    lines: int
    indented: int
    spaces: int
    space_by_mark: int
    mark: int
    mark_by_mark: int
    repeated: int
    repeats: int
    accented: int
    cyrillic: int
    cyrillic_letters: int
    greek: int
    greek_letters: int
    arabic: int
    arabic_letters: int
    kana: int
    han: int
    hangul: int
    symbol: int
    other_bytes: int


# Weights fitted to the counts of Claude 3 to Opus 4.6, as the package ctok 1.3 reconstructs them; for Latin letters, to
# their geometric mean with those of cl100k_base and o200k_base. From Opus 4.7 on, Claude counts a third to a half more
# tokens in them. The weights stay lower, because an estimate must not charge tokens that may not have been used. The
# provider's own count is asked for first.
_CLAUDE: Final = _Weights(
    word=112,
    word_over_3=42,
    word_over_9=46,
    letters_over_11=46,
    common=58,
    title=31,
    capitals=146,
    lines=102,
    indented=54,
    spaces=188,
    space_by_mark=78,
    mark=43,
    mark_by_mark=22,
    repeated=3,
    repeats=20,
    accented=35,
    cyrillic=65,
    cyrillic_letters=31,
    greek=106,
    greek_letters=60,
    arabic=10,
    arabic_letters=79,
    kana=79,
    han=122,
    hangul=141,
    symbol=46,
    other_bytes=98,
)
# The weights fitted to o200k_base and DeepSeek V4.
_OTHER: Final = _Weights(
    word=98,
    word_over_3=52,
    word_over_9=68,
    letters_over_11=23,
    common=67,
    title=7,
    capitals=155,
    lines=87,
    indented=48,
    spaces=201,
    space_by_mark=64,
    mark=27,
    mark_by_mark=43,
    repeated=0,
    repeats=12,
    accented=17,
    cyrillic=14,
    cyrillic_letters=25,
    greek=111,
    greek_letters=29,
    arabic=53,
    arabic_letters=28,
    kana=68,
    han=74,
    hangul=78,
    symbol=26,
    other_bytes=77,
)
_WHOLE: Final = 100
# Only windows of a longer text are weighed: 10,000 characters take some milliseconds, which would hold up the host.
_WEIGHED_CHARS: Final = 32_000
_WINDOW_CHARS: Final = 2_000
# Kinds that count once at any length, kinds that count for each of their characters, and kinds that do both.
_ONCE: Final = ("capitals", "spaces", "space_by_mark", "mark", "mark_by_mark", "symbol")
_EACH: Final = ("accented", "kana", "han", "hangul")
_BOTH: Final = ("cyrillic", "greek", "arabic")


class _Scale:
    """Weights by kind, for the pass over a text."""

    def __init__(self, weights: _Weights) -> None:
        self.weights = weights
        named = weights._asdict()
        self.once = {kind: named[kind] for kind in _ONCE} | {"digits": _WHOLE, "by_digits": _WHOLE, "space": 0}
        self.each = {kind: (0, named[kind]) for kind in _EACH}
        self.each |= {kind: (named[kind], named[f"{kind}_letters"]) for kind in _BOTH}

    def hundredths(self, text: str) -> int:
        """Return the weight of a text, in hundredths of a token."""
        once, each, total = self.once, self.each, 0
        for found in _KINDS.finditer(text):
            kind = found.lastgroup or ""
            if kind == "word":
                total += _word(found.group(), self.weights)
            elif kind in once:
                total += once[kind]
            elif kind in each:
                first, more = each[kind]
                total += first + more * (found.end() - found.start())
            else:
                total += self._rare(kind, found.group())
        return total

    def _rare(self, kind: str, piece: str) -> int:
        if kind == "lines":
            return self.weights.lines + (self.weights.indented if piece[-1] in " \t" else 0)
        if kind == "other":
            return self.weights.other_bytes * len(piece.encode(errors="surrogatepass"))
        return self.weights.repeated + self.weights.repeats * (len(piece) - 3)


def _word(word: str, weights: _Weights) -> int:
    found = weights.title if word[0] < "a" else 0
    if word.lower() in _COMMON:
        return found + weights.common
    size = len(word)
    if size > 3:
        found += weights.word_over_3
        if size > 9:
            found += weights.word_over_9 + weights.letters_over_11 * max(0, size - 11)
    return found + weights.word


_SCALES: Final = (_Scale(_CLAUDE), _Scale(_OTHER))


def estimated_tokens(text: str, model: str | None = None) -> int:
    """Estimate the tokens of a text for a model of this name; without a name, for one of Anthropic's.

    The estimate is at most one for each byte, as no token is shorter, and at least one for any text.
    """
    scale = _SCALES[0 if model is None or model.startswith("claude") else 1]
    size_bytes, size_chars = len(text.encode(errors="surrogatepass")), len(text)
    weighed = text
    if size_chars > _WEIGHED_CHARS:
        stride = -(-size_chars * _WINDOW_CHARS // _WEIGHED_CHARS)
        weighed = "".join(text[at : at + _WINDOW_CHARS] for at in range(0, size_chars, stride))
    found = scale.hundredths(weighed) * size_chars // max(1, len(weighed))
    return min(size_bytes, max(1, -(-found // _WHOLE)))
