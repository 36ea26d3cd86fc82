"""Environment variable by which a launcher passes its pipes to the server that it starts."""

from __future__ import annotations

from typing import Final

# Names the launcher's pipes. A process that has this variable is the server, and starts no launcher.
LAUNCHED_BY: Final = "SATMETER_LAUNCHED_BY"
