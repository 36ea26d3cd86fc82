"""Secrets from the environment, or from the files that it names: each `NAME` also by `NAME_FILE`."""

from __future__ import annotations

import stat
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import msgspec

from .problem import Problem
from .secret_names import BINARY, IN_A_FILE, SECRETS

_BYTES_MAX: Final = 10_000
# The first byte of a macaroon in binary (libmacaroons, version 2).
_MACAROON: Final = b"\x02"


class SecretFileError(Exception):
    """Error for a file that holds no usable secret. The text is a part of a sentence for the operator."""


class SecretFiles(msgspec.Struct, frozen=True):
    """Secrets that were in files, by their names.

    `exposed`: a problem for each file that all users of the machine may read, which production refuses.
    """

    values: Mapping[str, str]
    problems: Sequence[Problem]
    exposed: Sequence[Problem]


def read_secret_files(environment: Mapping[str, str], names: Sequence[str] = SECRETS) -> SecretFiles:
    """Read the files that the environment names. A variable that is set beside its file is a problem."""
    given = {name.upper(): value for name, value in environment.items() if value}
    values: dict[str, str] = {}
    problems: list[Problem] = []
    exposed: list[Problem] = []
    for name in names:
        variable = f"{name}{IN_A_FILE}"
        if variable not in given:
            continue
        if name in given:
            problems.append(Problem(variable, f"{name} is set, too: remove one of them, as only one can be right."))
            continue
        path = Path(given[variable])
        try:
            values[name] = secret_in(path, binary=name in BINARY)
        except SecretFileError as error:
            problems.append(Problem(variable, f"{path} {error}."))
            continue
        if is_exposed(path):
            exposed.append(Problem(variable, f"{path} {EXPOSED}."))
    return SecretFiles(values, problems, exposed)


def secret_of(name: str, environment: Mapping[str, str]) -> str:
    """Return a secret of the environment or of the file that it names; empty without one.

    Raises `ValueError` with a sentence for the operator.
    """
    found = read_secret_files(environment, (name,))
    if found.problems:
        raise ValueError(f"{found.problems[0].variable}: {found.problems[0].message}")
    return found.values.get(name) or environment.get(name, "").strip()


def secret_in(path: Path, *, binary: bool = False) -> str:
    """Return the secret that a file holds, without white space around it. Raises `SecretFileError`.

    binary: the file may hold a macaroon in binary, of which the hex is returned.
    """
    try:
        # A pipe would be waited for, without an end.
        if not stat.S_ISREG(path.stat().st_mode):
            raise SecretFileError("is not a file: name the file that holds the secret")
        with path.open("rb") as file:
            content = file.read(_BYTES_MAX + 1)
        text = content.hex() if binary and content[:1] == _MACAROON else content.decode("utf-8-sig")
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not text"
        raise SecretFileError(f"can't be read ({why}): correct the path, or let this user read it") from None
    secret = text.strip()
    if not secret:
        raise SecretFileError("is empty: write the secret into it")
    if len(content) > _BYTES_MAX or len(secret.splitlines()) > 1:
        raise SecretFileError("has more than one line: it must hold the secret and nothing else")
    return secret


EXPOSED: Final = (
    "can be read by every user of this machine: `chmod 600` it (Docker and Kubernetes: mode 0400, for this user)"
)
"""Fault of an exposed file, as a part of a sentence."""


def is_exposed(path: Path) -> bool:
    """Return True if users of the machine can read or change a file who are neither its owner nor of its group."""
    try:
        return bool(path.stat().st_mode & (stat.S_IROTH | stat.S_IWOTH))
    except OSError:
        return False
