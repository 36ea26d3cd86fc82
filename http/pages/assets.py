"""Assets of the pages: style sheets and script modules, as files that a browser keeps for good.

All of them have the digest of all in their address, so that a module imports the others of its own version.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from ...actors.domain.errors import RefusedError, not_found

_FOLDER: Final = Path(__file__).with_name("static")
_TYPES: Final = {".css": "text/css", ".js": "text/javascript"}
_FOR_GOOD: Final = "public, max-age=31536000, immutable"


class Assets:
    """The assets, read once."""

    def __init__(self) -> None:
        paths = sorted(path for path in _FOLDER.iterdir() if path.suffix in _TYPES)
        self._files = {path.name: path.read_bytes() for path in paths}
        digest = hashlib.sha256()
        for name, content in self._files.items():
            digest.update(f"{name}:{len(content)}:".encode() + content)
        self._digest = digest.hexdigest()[:20]

    def url(self, name: str) -> str:
        """Return the address of a file, which changes with any of them. Raises `KeyError`."""
        assert self._files[name]
        return f"/assets/{self._digest}/{name}"

    async def show(self, request: Request) -> Response:
        """Answer GET /assets/{digest}/{name}. Raises `RefusedError` (404)."""
        name: str = request.path_params["name"]
        content = self._files.get(name)
        if content is None:
            raise RefusedError(not_found("file"))
        # During an upgrade, a page of the other version may be asked for here. It works, but is not to be kept.
        kept = _FOR_GOOD if request.path_params["digest"] == self._digest else "no-store"
        return Response(content, headers={"Cache-Control": kept}, media_type=_TYPES[Path(name).suffix])
