"""Start of Ray's head with the password of its store on no command line, which every user of the machine may read.

Ray takes it as an option alone, and repeats it on the command lines of its processes: of `gcs_server`, which uses it,
and of raylet and workers, which don't. Here `gcs_server` gets it in its environment, which only its own user may read,
and the others get none. Ray's modules are passed in: only `cluster` imports them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

from .ray_start import RayStartError

_GCS: Final = "gcs_server"
# The library that reads its options (gflags) takes those that are named here from variables of this prefix.
_FROM_ENVIRONMENT: Final = "--fromenv=redis_password"
_VARIABLE: Final = "FLAGS_redis_password"


@contextmanager
def hidden_password(services: Any, password: str) -> Iterator[None]:
    """Have Ray start its processes without this password on a command line.

    Raises `RayStartError` instead of starting one that has it there, should another release of Ray pass it otherwise.

    services: the module `ray._private.services`.
    """
    launch, begin_gcs, begin_raylet = services.start_ray_process, services.start_gcs_server, services.start_raylet

    def start_ray_process(command: Sequence[str], process_type: str, *args: Any, **options: Any) -> Any:
        if any(f"password={password}" in word for word in command):
            raise RayStartError(f"it would put the password of its store on the command line of {process_type}")
        if process_type == _GCS:
            command = [*command, _FROM_ENVIRONMENT]
            options["env_updates"] = {**(options.get("env_updates") or {}), _VARIABLE: password}
        return launch(command, process_type, *args, **options)

    replaced = (
        ("start_ray_process", launch, start_ray_process),
        ("start_gcs_server", begin_gcs, _without_password(begin_gcs)),
        ("start_raylet", begin_raylet, _without_password(begin_raylet)),
    )
    for name, _, function in replaced:
        setattr(services, name, function)
    try:
        yield
    finally:
        for name, original, _ in replaced:
            setattr(services, name, original)


def _without_password(begin: Any) -> Any:
    def start(*args: Any, **options: Any) -> Any:
        return begin(*args, **{**options, "redis_password": None})

    return start
