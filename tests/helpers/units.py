"""systemd's units of deploy/, read as systemd reads them."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path


class Unit:
    """A unit's settings by section and name, each with its values in their order."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._values: dict[tuple[str, str], list[str]] = defaultdict(list)
        section = ""
        for line in path.read_text().replace("\\\n", " ").splitlines():
            if line.startswith("["):
                section = line.strip("[]")
            elif line and line[0] not in "#;":
                name, _, value = line.partition("=")
                self._values[section, name].append(value)

    def all(self, name: str, section: str = "Service") -> list[str]:
        """All values of a setting."""
        return self._values[section, name]

    def one(self, name: str, section: str = "Service") -> str:
        """The only value of a setting."""
        (value,) = self._values[section, name]
        return value

    def environment(self) -> dict[str, str]:
        """The variables that the unit itself sets."""
        words = [word for line in self.all("Environment") for word in line.split()]
        return dict(word.split("=", 1) for word in words)


def env_file(path: Path) -> dict[str, str]:
    """The variables of an EnvironmentFile as plain as ours."""
    lines = path.read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))
