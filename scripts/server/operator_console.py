"""Console of the operator: what the server says of its start, to a person at a terminal, else as log entries."""

from __future__ import annotations

import logging
from typing import Final, Literal, TextIO

import structlog
from rich.console import Console
from rich.text import Text

from ... import __version__
from ...actors.domain.provider_faults import ModelFault
from ...config.log_terminal import wants_colour, width_of
from ...config.logging import is_for_people
from ...config.settings import Settings
from .banner import first_command, parts_of, show_banner, trouble_of, url_of

_NAME: Final = "satmeter.server"
_log = structlog.get_logger(_NAME)


class OperatorConsole:
    """The server's words for its operator. A level that leaves out other entries leaves these in."""

    def __init__(self, terminal: TextIO, settings: Settings) -> None:
        self._terminal = terminal
        self._for_people = is_for_people(terminal, settings)
        logging.getLogger(_NAME).setLevel(logging.INFO)

    @property
    def _console(self) -> Console | None:
        """Return the console, as wide as the terminal is now: standard streams, where it would look, go elsewhere."""
        if not self._for_people:
            return None
        colours: Literal["auto"] | None = "auto" if wants_colour(self._terminal) else None
        return Console(file=self._terminal, color_system=colours, width=width_of(self._terminal))

    def step(self, text: str) -> None:
        """Tell how far the start is, or what it waits for."""
        if (console := self._console) is not None:
            console.print(text, style="dim", highlight=False, markup=False)
        else:
            _log.info("server_starting", hint=text)

    def serving(self, settings: Settings, port: int, model_fault: ModelFault | None) -> None:
        """Tell that the server serves: where, with which parts, and why nothing is sold, if so."""
        if (console := self._console) is not None:
            show_banner(console, settings, port, model_fault)
            return
        url = url_of(settings, port)
        hint = " ".join(filter(None, (f"Satmeter serves at {url}", trouble_of(model_fault))))
        _log.info(
            "server_serves",
            url=url,
            version=__version__,
            **parts_of(settings),
            first_command=first_command(url),
            hint=hint,
        )

    def not_started(self, text: str) -> None:
        """Tell why the server can't start."""
        if not self._shown("satmeter can't start:", text):
            _log.error("server_not_started", hint=f"satmeter can't start: {text}")

    def not_yet_started(self, text: str) -> None:
        """Tell why the server did not start, if another try may succeed."""
        if not self._shown("Not yet:", text):
            _log.warning("server_not_yet_started", hint=text)

    def node_lost(self) -> None:
        """Tell that the server ends, as nothing can be served without the Ray node."""
        head, text = "Ray has ended on this machine:", "start it, and this server, again."
        if not self._shown(head, text):
            _log.error("ray_node_lost", hint=f"{head} {text}")

    def _shown(self, head: str, text: str) -> bool:
        """Show it to a person, if one reads along; return whether one does."""
        if (console := self._console) is not None:
            console.print(Text.assemble((head, "bold red"), " ", text))
        return console is not None
