"""Commands of `satmeter` beside a running server, as its operator gives them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from tests.helpers.patience import PROGRAM_S
from tests.helpers.served import ENVIRONMENT


def satmeter(*words: str, within: Sequence[str] = (), **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs a command to its end. `within`: the words before it, of a program that runs it in its own place."""
    command = str(Path(sys.executable).with_name("satmeter"))
    ours = ("SATMETER_", "LNBITS_", "ANTHROPIC_", "RAY_", "REDIS_")
    clean = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    return subprocess.run(
        [*within, command, *words],
        env={**clean, **ENVIRONMENT, **environment},
        capture_output=True,
        text=True,
        timeout=PROGRAM_S,
        check=False,
    )


def audit(
    data_dir: Path, within: Sequence[str] = (), **environment: str
) -> tuple[subprocess.CompletedProcess[str], dict[str, Any]]:
    """An audit, and all its figures."""
    file = data_dir.parent / "audit.json"
    words = ("audit", "--data-dir", str(data_dir), "--json", str(file))
    done = satmeter(*words, within=within, **environment)
    assert file.exists(), done.stdout + done.stderr
    found: dict[str, Any] = msgspec.json.decode(file.read_bytes())
    file.unlink()
    return done, found


def audited(data_dir: Path, within: Sequence[str] = (), **environment: str) -> dict[str, Any]:
    """All figures of an audit that finds nothing."""
    done, found = audit(data_dir, within, **environment)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "The books close" in done.stdout
    return found
