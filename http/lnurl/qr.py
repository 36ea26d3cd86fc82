"""QR codes as SVG pictures without scripts, styles or references."""

from __future__ import annotations

import io
from functools import lru_cache
from typing import Final

_MODULE_PX: Final = 6


@lru_cache(maxsize=512)
def svg_of(text: str) -> bytes:
    """Return the picture, dark on light in any surroundings."""
    # The module takes a while to load, and most servers never need it.
    import segno

    picture = io.BytesIO()
    code = segno.make(text, error="m", micro=False)
    code.save(
        picture,
        kind="svg",
        scale=_MODULE_PX,
        dark="#000",
        light="#fff",
        xmldecl=False,
        svgclass=None,
        lineclass=None,
        nl=False,
    )
    return picture.getvalue()
