"""Filter of the operator's key out of what an upstream sends, however its bytes are cut."""

from __future__ import annotations

from typing import Final

LEFT_OUT: Final = "[key]"
_LEFT_OUT: Final = LEFT_OUT.encode()


class KeyFilter:
    """Filter of one answer. What may be the beginning of the key is held back until the next bytes tell."""

    __slots__ = ("_held", "_key")

    def __init__(self, key: bytes) -> None:
        self._key = key
        self._held = b""

    def passed(self, chunk: bytes) -> bytes:
        """Return what can go on of the bytes so far; perhaps nothing."""
        key = self._key
        if not key:
            return chunk
        if self._held:
            chunk = self._held + chunk
            self._held = b""
        if key in chunk:
            chunk = chunk.replace(key, _LEFT_OUT)
        begun = self._begun(chunk)
        if begun < len(chunk):
            self._held = chunk[begun:]
            return chunk[:begun]
        return chunk

    def rest(self) -> bytes:
        """Return what is held back at the end: it was not the key."""
        held, self._held = self._held, b""
        return held

    def _begun(self, chunk: bytes) -> int:
        """Return the place from which all is the beginning of the key; the length if there is none."""
        key, place = self._key, max(0, len(chunk) - len(self._key) + 1)
        while (place := chunk.find(key[:1], place)) >= 0:
            if key.startswith(chunk[place:]):
                return place
            place += 1
        return len(chunk)
