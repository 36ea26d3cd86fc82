"""Start of Ray on one machine, with only what a single machine needs, and with patience on a busy one.

Ray's own start of a node waits for helpers: a dashboard, an autoscaler, logs, runtime environments. Each is a Python
process of 50 MB and seconds of CPU; nothing of ours uses one. On a busy machine their start alone outlasts the 30 s
after which Ray gives up. Ray's modules are passed in: only `cluster` imports them.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from subprocess import list2cmdline
from typing import Any, Final, Protocol

# Ray insists on two agents, and its node ends when one of them does. These do nothing as long as the node lives.
_AGENT: Final = re.compile("(--(?:dashboard|runtime_env)_agent_command=).*", re.DOTALL)
_IDLE: Final = list2cmdline(["sh", "-c", "while kill -0 $PPID 2>/dev/null; do sleep 5; done"])
# The node waits for a port that is 0 until an agent has chosen one. Nothing listens at the last one of all, which no
# system gives to a program that asks for any, and nothing is sent there.
_AGENT_PORT: Final = re.compile("(--(?:metrics|runtime)[-_](?:agent|export|env[-_]agent)[-_]port=)0")
_NO_PORT: Final = 65_535
_LOOK_EVERY_S: Final = 0.1


class RayStartError(Exception):
    """Failure of Ray to come up. The text says why; another try may succeed."""


class _Process(Protocol):
    def poll(self) -> int | None: ...


@contextmanager
def lean_start(
    node: Any,
    services: Any,
    patience_s: float,
    *,
    clock: Callable[[], float] = time.monotonic,
    pause: Callable[[float], None] = time.sleep,
) -> Iterator[None]:
    """Have `ray.init` start a node without helpers, and wait `patience_s` for it while its processes live.

    Any exception that it raises becomes a `RayStartError`.

    node: the class `ray._private.node.Node`. services: the module `ray._private.services`.
    """
    launch, find_node = services.start_ray_process, services.get_node
    started: dict[str, _Process] = {}

    def start_ray_process(command: Sequence[str], process_type: str, *args: Any, **options: Any) -> Any:
        info = launch(_without_agents(command, process_type), process_type, *args, **options)
        started[process_type] = info.process
        return info

    def get_node(gcs_address: str, node_id: str) -> Any:
        deadline_s = clock() + patience_s
        while True:
            try:
                return find_node(gcs_address, node_id)
            except RuntimeError as error:
                # An attempt that ran out of time ends here, too; RAY_raylet_start_wait_time_s is its length.
                for name, process in started.items():
                    if (status := process.poll()) is not None:
                        raise RayStartError(f"its process {name} ended with status {status}") from error
                if clock() > deadline_s:
                    raise RayStartError(f"it was not ready within {patience_s:.0f} s") from error
            pause(_LOOK_EVERY_S)

    replaced = (
        (services, "start_ray_process", start_ray_process),
        (services, "get_node", get_node),
        (services, "start_api_server", lambda *_args, **_options: ("", None)),
        (node, "start_monitor", lambda _self: None),
        (node, "start_log_monitor", lambda _self: None),
    )
    originals = [(owner, name, getattr(owner, name)) for owner, name, _ in replaced]
    for owner, name, function in replaced:
        setattr(owner, name, function)
    try:
        yield
    except RayStartError:
        raise
    except Exception as error:
        # Ray raises plain exceptions, some with texts of many lines.
        raise RayStartError(f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}") from error
    finally:
        for owner, name, function in originals:
            setattr(owner, name, function)


def _without_agents(command: Sequence[str], process_type: str) -> Sequence[str]:
    if process_type != "raylet":
        return command
    idle = (_AGENT.sub(lambda match: match[1] + _IDLE, word) for word in command)
    ports = (_AGENT_PORT.sub(rf"\g<1>{_NO_PORT}", word) for word in idle)
    # Ray's Python code forgets to pass this one on.
    return [*ports, f"--dashboard_agent_listen_port={_NO_PORT}"]
