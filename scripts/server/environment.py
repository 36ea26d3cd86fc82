"""Environment of a server: the variable that names its launcher's pipes, and the secrets that it must not inherit."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from ...config.secret_names import CLIENT_SECRETS, RAY_SECRETS, SECRETS

# Names the launcher's pipes. A process that has this variable is the server, and starts no launcher.
LAUNCHED_BY: Final = "SATMETER_LAUNCHED_BY"
_MODELS_FILE: Final = "SATMETER_MODELS_FILE"


def without_secrets(environment: Mapping[str, str]) -> tuple[dict[str, str], dict[str, str]]:
    """Return the environment without secrets, and the secrets: those of the models file's keys, too.

    The password of Ray's store is in neither: Ray's head alone needs it.
    """
    models_file = next((value for name, value in environment.items() if name.upper() == _MODELS_FILE), "")
    names = {*SECRETS, *CLIENT_SECRETS}
    exact = _key_variables(models_file)
    secrets = {name: value for name, value in environment.items() if name.upper() in names or name in exact}
    left_out = {*secrets, *RAY_SECRETS}
    return {name: value for name, value in environment.items() if name not in left_out}, secrets


def _key_variables(models_file: str) -> frozenset[str]:
    """Return the variables that a models file names; none of a file that can't be read, which is told later."""
    if not models_file:
        return frozenset()
    import tomllib

    try:
        upstreams = tomllib.loads(Path(models_file).read_text(encoding="utf-8")).get("upstreams")
        return frozenset(str(table["key_env"]) for table in upstreams or () if "key_env" in table)
    except (OSError, ValueError, TypeError, AttributeError):
        return frozenset()
