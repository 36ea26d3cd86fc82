"""A real llama.cpp server on 127.0.0.1, with a tiny model that is made on the spot. It answers within a second."""

from __future__ import annotations

import contextlib
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

import httpx

from tests.helpers.custody import ending_with_us
from tests.helpers.patience import PATIENCE_S
from tests.llamacpp.install import installed, model_folder

MODEL: Final = "tiny-llama"
SENTENCE: Final = "A tiny model answers every prompt with this one short sentence, then stops."
CONTEXT_TOKENS: Final = 2_048
_PROGRAM: Final = Path(__file__).with_name("tiny_llama.py")
_STOPS_WITHIN_S: Final = 5


@dataclass(frozen=True)
class LlamaCpp:
    """A running server. `url` is its address without `/v1`."""

    url: str
    process: subprocess.Popen[str]

    @property
    def base_url(self) -> str:
        """Address of its API in OpenAI's shape."""
        return f"{self.url}/v1"

    def generated_tokens(self) -> int:
        """The tokens that it has generated, by its own metrics."""
        text = httpx.get(f"{self.url}/metrics", timeout=PATIENCE_S, trust_env=False).text
        line = next(line for line in text.splitlines() if line.startswith("llamacpp:tokens_predicted_total "))
        return int(float(line.split()[1]))

    def busy(self) -> bool:
        """Return whether it works on a request, by its own word."""
        slots = httpx.get(f"{self.url}/slots", timeout=PATIENCE_S, trust_env=False).json()
        return any(slot["is_processing"] for slot in slots)

    def kill(self) -> None:
        """Ends it at once, whatever is in flight."""
        self.process.kill()
        self.process.wait(_STOPS_WITHIN_S)


@contextlib.contextmanager
def running_llama(*options: str) -> Iterator[LlamaCpp]:
    """Starts a server, and stops it at the end. Raises `InstallError`, `AssertionError`."""
    python = installed()
    with tempfile.TemporaryFile("w+", prefix="sm-llama-") as log:
        process = subprocess.Popen(
            ending_with_us([str(python), str(_PROGRAM), "--port", "0", "--dir", str(model_folder()), *options]),
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
        try:
            yield LlamaCpp(_address(process, log), process)
        finally:
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_STOPS_WITHIN_S)
            process.kill()
            process.wait(_STOPS_WITHIN_S)
            if process.stdout is not None:
                process.stdout.close()


def _address(process: subprocess.Popen[str], log: IO[str]) -> str:
    """The server's address, by the line that it prints when it is ready."""
    assert process.stdout is not None
    word, _, rest = process.stdout.readline().partition(" ")
    if word != "ready":
        log.seek(0)
        raise AssertionError(f"llama.cpp did not start:\n{log.read()[-3_000:]}")
    return rest.split()[0]
