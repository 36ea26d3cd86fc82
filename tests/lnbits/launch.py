"""Run LNbits until its standard input ends, as it does with the process that started it.

Run by the Python LNbits is in.

Its argument is the port, 0 for a free one; the first line that it prints is the port it has.
"""

from __future__ import annotations

import importlib.util
import os
import signal
import socket
import sys
import threading
from pathlib import Path

import uvicorn


def _end_with_input() -> None:
    sys.stdin.buffer.read()
    os.kill(os.getpid(), signal.SIGTERM)


def main() -> None:
    """Serves LNbits on a port of 127.0.0.1."""
    listener = socket.create_server(("127.0.0.1", int(sys.argv[1])))
    port = listener.getsockname()[1]
    os.environ.update(HOST="127.0.0.1", PORT=str(port), LNBITS_BASEURL=f"http://127.0.0.1:{port}/")
    spec = importlib.util.find_spec("lnbits")
    assert spec is not None and spec.origin is not None, "LNbits is not installed here"
    # It serves files from a path that is relative to where it is installed.
    os.chdir(Path(spec.origin).parents[1])
    threading.Thread(target=_end_with_input, daemon=True).start()
    print(port, flush=True)  # noqa: T201 - for the process that waits for it
    os.dup2(2, 1)  # Nobody reads on: a full pipe would hold LNbits up.
    config = uvicorn.Config("lnbits.__main__:app", access_log=False, timeout_graceful_shutdown=1)
    uvicorn.Server(config).run(sockets=[listener])


if __name__ == "__main__":
    main()
