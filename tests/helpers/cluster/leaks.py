"""Search for secrets where a server may have left them: processes, their memory, files, texts."""

from __future__ import annotations

import base64
import contextlib
import re
import stat
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

_HEX = re.compile(r"(?:[0-9a-f]{2}){16,}")
# Mapped files and what is shared, such as Ray's object store, are not a process's own.
_OWN_MEMORY = re.compile(r"([0-9a-f]+)-([0-9a-f]+) rw.p [0-9a-f]+ [0-9a-f:]+ \d+\s*(.*)")
_PIECE_BYTES = 16 * 1024 * 1024


def forms_of(text: str) -> tuple[bytes, ...]:
    """Return the forms in which a secret is looked for: text, quoted, in base64, and the bytes that it stands for."""
    forms = {text.encode(), quote(text, safe="").encode(), base64.b64encode(text.encode())[: -4 or None]}
    if _HEX.fullmatch(text):
        forms.add(bytes.fromhex(text))
    return tuple(forms)


@dataclass(frozen=True)
class Secrets:
    """Secrets by their names, which a failed test shows instead of them."""

    forms: Mapping[str, tuple[bytes, ...]]

    @classmethod
    def of(cls, texts: Mapping[str, str]) -> Secrets:
        return cls({name: forms_of(text) for name, text in texts.items()})

    def without(self, *names: str) -> Secrets:
        return Secrets({name: forms for name, forms in self.forms.items() if name not in names})

    def only(self, *names: str) -> Secrets:
        return Secrets({name: self.forms[name] for name in names})

    def found_in(self, data: bytes) -> set[str]:
        return {name for name, forms in self.forms.items() if any(form in data for form in forms)}

    @property
    def longest(self) -> int:
        return max(len(form) for forms in self.forms.values() for form in forms)


def in_texts(secrets: Secrets, texts: Mapping[str, bytes]) -> set[str]:
    """Return what is found, as `secret in place`."""
    return {f"{name} in {place}" for place, data in texts.items() for name in secrets.found_in(data)}


def in_processes(secrets: Secrets, pids: Iterable[int]) -> set[str]:
    """Return what is found in environments and command lines."""
    found = set()
    for pid in pids:
        for part in ("environ", "cmdline"):
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                data = Path(f"/proc/{pid}/{part}").read_bytes()
                found |= {f"{name} in {part} of {_title(pid)}" for name in secrets.found_in(data)}
    return found


def in_memory(secrets: Secrets, pids: Iterable[int]) -> set[str]:
    """Return what is found in the memory of processes. Raises `PermissionError` where this user may not read it."""
    found = set()
    for pid in pids:
        title = _title(pid)
        for piece in _memory(pid, secrets.longest):
            found |= {f"{name} in memory of {title}" for name in secrets.found_in(piece)}
    return found


def _memory(pid: int, overlap: int) -> Iterator[bytes]:
    maps = Path(f"/proc/{pid}/maps").read_text()
    with Path(f"/proc/{pid}/mem").open("rb", buffering=0) as memory:
        for low, high, name in (match.groups() for match in map(_OWN_MEMORY.match, maps.splitlines()) if match):
            if name in ("[vvar]", "[vsyscall]"):
                continue
            at, end, last = int(low, 16), int(high, 16), b""
            while at < end:
                try:
                    memory.seek(at)
                    piece = memory.read(min(_PIECE_BYTES, end - at))
                except (OSError, ValueError):
                    break
                if not piece:
                    break
                yield last + piece
                last, at = piece[-overlap:], at + len(piece)


def in_files(secrets: Secrets, *places: Path) -> set[str]:
    """Return what is found in files below these places, or in their names."""
    found = set()
    for place in places:
        for path in [place, *place.rglob("*")] if place.is_dir() else [place]:
            with contextlib.suppress(FileNotFoundError):
                if stat.S_ISREG(path.lstat().st_mode):
                    data = path.read_bytes() + str(path).encode()
                    found |= {f"{name} in {path.name}" for name in secrets.found_in(data)}
    return found


def _title(pid: int) -> str:
    with contextlib.suppress(FileNotFoundError):
        words = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").split()
        return " ".join(Path(word).name for word in words[:3]) or str(pid)
    return str(pid)
