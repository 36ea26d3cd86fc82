"""Entry point of `satmeter`. It imports almost nothing before it has set the handling of Ctrl-C."""

from __future__ import annotations

import os
import signal
import sys

from .server.environment import LAUNCHED_BY


def main() -> None:
    """Run the command that the arguments name."""
    # Python's own handler would raise in the middle of an import, and print a traceback. Until all is loaded, Ctrl-C
    # ends the process by default. The parent may have had it ignored, which is kept, or blocked, which is undone.
    handler = signal.getsignal(signal.SIGINT)
    if handler is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    if sys.argv[1:2] == ["serve"] and "--help" not in sys.argv and LAUNCHED_BY not in os.environ:
        from .server.launcher import launch

        sys.exit(launch(sys.argv[1:]))
    from .commands import app

    signal.signal(signal.SIGINT, handler)
    app(prog_name="satmeter")


if __name__ == "__main__":
    main()
