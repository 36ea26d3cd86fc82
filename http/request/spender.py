"""Spender that a client names in a header, for ledgers and receipts: a sub-agent, or a conversation."""

from __future__ import annotations

import re
from typing import Final

from starlette.requests import HTTPConnection

from ...actors.domain.credentials.caveats import Grant

# The first that is there counts: our own, Claude Code's for sub-agents and for conversations, and Codex's for
# conversations. Source: https://code.claude.com/docs/en/llm-gateway-protocol, and what both clients send.
HEADERS: Final = (
    "satmeter-spender",
    "x-claude-code-agent-id",
    "x-claude-code-session-id",
    "session-id",
    "session_id",
)
# A slash parts the names of caveats that follow each other. What can't be a name is left out: clients send these
# headers by themselves, and their calls must not fail.
_NAME: Final = re.compile(r"[A-Za-z0-9._:@-]{1,64}")


def spender_of(connection: HTTPConnection, grant: Grant) -> str | None:
    """Return the spender that a header names; None without a readable one.

    A credential with a name of its own keeps it: its holder can't take it off, and a header is only the client's word.
    """
    if grant.spender is not None:
        return None
    for name in HEADERS:
        sent = connection.headers.getlist(name)
        if len(sent) == 1 and _NAME.fullmatch(sent[0]):
            return sent[0]
    return None
