"""The variable by which a launcher hands its pipes to the server that it starts."""

from __future__ import annotations

from typing import Final

# Names the pipes of the process that has started this one as a server; such a one does not start another.
LAUNCHED_BY: Final = "SATMETER_LAUNCHED_BY"
