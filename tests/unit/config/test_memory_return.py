"""Return of freed memory to the system."""

from __future__ import annotations

import subprocess
import sys

import pytest

from satmeter.config.memory_return import return_memory_regularly

# In a process of its own, whose heap holds nothing else. Pieces that are kept hold the end of the heap.
GROWN = """
import threading
ballast = bytearray(b"x") * {ballast_bytes}
from satmeter.config.memory_return import resident_bytes, return_memory_regularly
before = resident_bytes()
return_memory_regularly(0.05)
parts = [bytes(100_000) + b"x" for _ in range({parts})]
kept = parts[::100]
most = resident_bytes()
del parts
wait = threading.Event()
for _ in range(1_200):
    if resident_bytes() - before < (most - before) / 2:
        break
    wait.wait(0.05)
else:
    raise SystemExit(f"{{before}} {{most}} {{resident_bytes()}}")
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only glibc can")
@pytest.mark.parametrize(("parts", "ballast_bytes"), [(2_000, 0), (120, 100_000_000)], ids=["much", "a tenth more"])
def test_what_a_flood_has_taken_is_given_back(parts: int, ballast_bytes: int) -> None:
    program = GROWN.format(parts=parts, ballast_bytes=ballast_bytes)
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr


def test_the_thread_does_not_hold_up_the_end_of_its_process() -> None:
    thread = return_memory_regularly(3_600)
    assert thread is None or thread.daemon
