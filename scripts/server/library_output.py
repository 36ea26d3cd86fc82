"""Output of libraries, which goes to a file: out of the operator's sight, but available after a failure."""

from __future__ import annotations

import os
import sys
import tempfile
import traceback
from contextlib import suppress
from pathlib import Path
from typing import Final, TextIO

_NAME: Final = "libraries.log"
# The output of earlier starts is kept up to this size, as it may explain their failures.
_KEPT_BYTES: Final = 1_048_576


class RawOutput:
    """The redirection of descriptors 1 and 2 to a file; `terminal` is the former standard error.

    Ray and its C++ libraries write stack traces there, in this process and in those that inherit the descriptors.
    """

    def __init__(self, directory: Path) -> None:
        self.terminal: TextIO = os.fdopen(os.dup(2), "w", buffering=1, errors="replace")
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.path = directory / _NAME
            fd = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            if os.fstat(fd).st_size > _KEPT_BYTES:
                os.ftruncate(fd, 0)
        except OSError:
            fd, name = tempfile.mkstemp(prefix="satmeter-", suffix=f"-{_NAME}")
            self.path = Path(name)
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError):
                stream.flush()
        for descriptor in (1, 2):
            os.dup2(fd, descriptor)
        os.close(fd)

    def keep(self, error: BaseException) -> None:
        """Write the error's traceback to the file."""
        with suppress(OSError, ValueError):
            traceback.print_exception(error, file=sys.stderr)
            sys.stderr.flush()
