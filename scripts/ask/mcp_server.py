"""`satmeter mcp`: an MCP server by which an agent asks and buys, within the budget that its owner sets.

Standard output belongs to the protocol. No tool shows the macaroon, a wallet's key or an invoice, as the agent's
output may be public.
"""

from __future__ import annotations

import asyncio
import functools
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final

import anyio
import msgspec
from mcp.server import MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp.server.mcpserver.tools import Tool as ServerTool
from mcp.types import ToolAnnotations
from pydantic import Field

from ...client import (
    AsyncSatmeter,
    BudgetExceededError,
    JobStatus,
    JobTimeoutError,
    LnbitsWallet,
    PriceTooHighError,
    SatmeterError,
    SessionStatus,
    StubWallet,
    Wallet,
    WalletError,
)
from .ask import advice
from .mcp_conversation import Conversation, converse
from .wallet import LNBITS_KEY, LNBITS_URL, WalletKind, lnbits_of_environment

_USAGE: Final = 2
_WAITS_S: Final = 240.0
# Longer than a payment takes, shorter than a service manager waits after SIGTERM.
_ENDS_WITHIN_S: Final = 10.0
_WRITES_WITHIN_S: Final = 0.5
_LEDGER_MAX: Final = 50
_INSTRUCTIONS: Final = (
    "Buys model answers with Bitcoin Lightning sats, within a budget that the owner set. `ask` is for a question, paid "
    "by the token from a session. For a larger piece of work, `quote_job` has it evaluated for a small fee and tells "
    "its price, and `buy_job` buys it. Give a call a `key` of its own to be able to repeat it if its result is lost: "
    "the same key and arguments cost nothing again. The last line of an error says what to do next (retry_action) and "
    "what became of the payment (payment_state)."
)

Key = Annotated[
    str | None,
    Field(description="Any text of your own, to repeat this call without paying again.", min_length=1, max_length=200),
]
Text = Annotated[str, Field(min_length=1, max_length=100_000)]
Tool = Callable[..., Awaitable[dict[str, Any]]]
_COSTS: Final = ToolAnnotations(read_only_hint=False, destructive_hint=True, open_world_hint=True)
_LOOKS: Final = ToolAnnotations(read_only_hint=True)


@dataclass
class Agent:
    """The agent's tools. The client is made at the first call, so that this program starts while the server is down."""

    server: str
    budget_sats: int
    call_max_sats: int
    deposit_sats: int
    kind: WalletKind
    session_file: Path

    def __post_init__(self) -> None:
        self._client: AsyncSatmeter | None = None
        self._making = asyncio.Lock()

    async def client(self) -> AsyncSatmeter:
        """Return the client, with its wallet."""
        async with self._making:
            if self._client is None:
                self._client = AsyncSatmeter(
                    self.server,
                    wallet=await self._wallet(),
                    budget_sats=self.budget_sats,
                    deposit_sats=self.deposit_sats,
                    top_up_sats=self.deposit_sats,
                    session_file=self.session_file,
                )
            return self._client

    async def _wallet(self) -> Wallet:
        lnbits = lnbits_of_environment()
        if lnbits is not None and self.kind is not WalletKind.STUB:
            return LnbitsWallet(*lnbits)
        async with AsyncSatmeter(self.server) as client:
            if await client.has_stub_node():
                return StubWallet()
        raise WalletError(f"There is no wallet: its owner sets {LNBITS_URL} and {LNBITS_KEY}.")

    async def ask(
        self,
        request: Text,
        max_tokens: Annotated[int | None, Field(ge=1, description="The longest answer.")] = None,
        model: Annotated[str | None, Field(description="One of those that `prices` lists.")] = None,
        key: Key = None,
    ) -> dict[str, Any]:
        """Ask a model a question, paid by the token from the session, which is opened and topped up as needed."""
        client = await self.client()
        answer = await client.ask(
            request,
            max_tokens=max_tokens,
            model=model,
            idempotency_key=key and f"mcp-{key}",
            max_msat=self.call_max_sats * 1_000,
        )
        told = {"state": answer.state, "answer": answer.text, "model": answer.model, "stop_reason": answer.stop_reason}
        return {**told, "cost_msat": answer.debited_msat, "balance_msat": answer.balance_msat, **self._budget(client)}

    async def quote_job(self, request: Text, key: Key = None) -> dict[str, Any]:
        """Have a piece of work evaluated for a small fee: it is rejected with a reason, or its price is told."""
        client = await self.client()
        job = await client.create_job(request, idempotency_key=key and f"mcp-{key}")
        if job.state == "awaiting_eval_payment":
            await client.pay_job(job.job_id, max_sats=self.call_max_sats)
        return {**_job(await _rest(client, job.job_id)), **self._budget(client)}

    async def buy_job(
        self,
        job_id: str,
        max_sats: Annotated[int, Field(ge=1, description="The most that it may cost; it is not bought for more.")],
    ) -> dict[str, Any]:
        """Buy the work that `quote_job` gave a price for, and get its result. Repeating it pays nothing again."""
        client = await self.client()
        await client.pay_job(job_id, max_sats=min(max_sats, self.call_max_sats))
        job = await _rest(client, job_id)
        if job.done:
            job = await client.refund_job(job_id)
        return {**_job(job), **self._budget(client)}

    async def get_job(self, job_id: str) -> dict[str, Any]:
        """Look at a job: its state, its price, its result."""
        return _job(await (await self.client()).job(job_id))

    async def balance(self) -> dict[str, Any]:
        """Return what is left of the session and of the budget."""
        client = await self.client()
        if not client.has_session:
            return {"session": None, **self._budget(client)}
        return {"session": _session(await client.session()), **self._budget(client)}

    async def ledger(
        self, after: Annotated[int, Field(ge=0, description="The last `seq` that you have.")] = 0
    ) -> dict[str, Any]:
        """Return the movements of the session's balance after this one, the last 50 of them."""
        entries = await (await self.client()).ledger(after)
        return {"entries": msgspec.to_builtins(entries[-_LEDGER_MAX:])}

    async def prices(self) -> dict[str, Any]:
        """Return the models, and all that a price depends on."""
        priced: dict[str, Any] = msgspec.to_builtins(await (await self.client()).pricing())
        return priced

    async def close_session(self) -> dict[str, Any]:
        """End the session and have what is left of it paid back to the owner's wallet."""
        client = await self.client()
        return {"session": _session(await client.close_session()), **self._budget(client)}

    async def close(self) -> None:
        """Close connections."""
        if self._client is not None:
            await self._client.close()

    def _budget(self, client: AsyncSatmeter) -> dict[str, Any]:
        left = client.budget_left_sats
        return {"budget_left_sats": left, "budget_sats": self.budget_sats, "call_max_sats": self.call_max_sats}

    def explained(self, error: SatmeterError) -> str:
        """Return an error's text, on which the agent and its owner can act, with the advice as its last line."""
        text = str(error)
        if isinstance(error, BudgetExceededError):
            text = f"{error} Only the owner can raise --budget-sats."
        elif isinstance(error, PriceTooHighError):
            text = f"{error} The owner allows {self.call_max_sats} sats a call (--call-max-sats)."
        return f"{text}\n{advice(error)}"


async def _rest(client: AsyncSatmeter, job_id: str) -> JobStatus:
    try:
        return await client.wait_for_job(job_id, timeout_s=_WAITS_S)
    except JobTimeoutError as error:
        return error.job


def _session(status: SessionStatus) -> dict[str, Any]:
    shown: dict[str, Any] = msgspec.to_builtins(status)
    del shown["pendingInvoices"]
    return shown


def _job(job: JobStatus) -> dict[str, Any]:
    told = {"job_id": job.job_id, "state": job.state, "reason": job.reason, "result": job.result}
    price = {"eval_fee_sats": job.eval_invoice.amount_sats}
    if job.work_invoice is not None:
        price["price_sats"] = job.work_invoice.amount_sats
    refund = None if job.refund is None else msgspec.to_builtins(job.refund)
    return {**told, "error": job.error_message, **price, "refund": refund}


def told(agent: Agent, function: Tool) -> Tool:
    """Return the function as a tool, whose exceptions become text."""

    @functools.wraps(function)
    async def call(*args: Any, **kwargs: Any) -> dict[str, Any]:
        try:
            return await function(*args, **kwargs)
        except SatmeterError as error:
            raise ToolError(agent.explained(error)) from None

    return call


def build(agent: Agent) -> MCPServer[Any]:
    """Return the MCP server with its tools."""
    costs = (agent.ask, agent.quote_job, agent.buy_job, agent.close_session)
    looks = (agent.get_job, agent.balance, agent.ledger, agent.prices)
    tools = [_strict(told(agent, function), _COSTS) for function in costs]
    tools += [_strict(told(agent, function), _LOOKS) for function in looks]
    return MCPServer("satmeter", instructions=_INSTRUCTIONS, log_level="WARNING", tools=tools)


def _strict(function: Tool, annotations: ToolAnnotations) -> ServerTool:
    """Return the function as a tool that refuses unknown arguments: a misspelt limit would cost its caller money."""
    tool = ServerTool.from_function(function, annotations=annotations)
    arguments = tool.fn_metadata.arg_model
    arguments.model_config["extra"] = "forbid"
    arguments.model_rebuild(force=True)
    tool.parameters = arguments.model_json_schema(by_alias=True)
    return tool


def run(
    server: str, *, budget_sats: int, call_max_sats: int, deposit_sats: int, kind: WalletKind, session_file: Path
) -> int:
    """Serve until standard input ends or SIGTERM comes; return the exit status."""
    try:
        if kind is WalletKind.LNBITS and lnbits_of_environment() is None:
            raise ValueError(f"--wallet lnbits needs {LNBITS_URL} and {LNBITS_KEY}, the wallet's admin key.")
        AsyncSatmeter(server)
        if (lnbits := lnbits_of_environment()) is not None:
            LnbitsWallet(*lnbits)
    except ValueError as error:
        sys.stderr.write(f"{error}\n")
        return _USAGE
    agent = Agent(server, budget_sats, call_max_sats, deposit_sats, kind, session_file)
    return asyncio.run(_serve(agent))


async def _serve(agent: Agent) -> int:
    """Serve until the input has ended and is answered, or SIGTERM: the calls under way then have a moment to end.

    SIGTERM after the end of the input, or a second one, ends it at once.
    """
    conversation = Conversation()
    loop = asyncio.get_running_loop()
    ended, hurried = asyncio.Event(), asyncio.Event()

    def end() -> None:
        if ended.is_set() or conversation.input_ended:
            hurried.set()
            conversation.give_up()
        ended.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, end)
    serving = asyncio.create_task(converse(build(agent), conversation))
    await _first(serving, ended.wait())
    if not serving.done() and not hurried.is_set():
        await _first(conversation.wait(_ENDS_WITHIN_S), hurried.wait())
    if not serving.done():
        # The last answer is written by a thread, or the input has ended and its calls are given up.
        await asyncio.wait({serving}, timeout=_WRITES_WITHIN_S)
    await agent.close()
    if not serving.done():
        # A thread is blocked in a read of standard input, and can't be interrupted.
        sys.stderr.flush()
        os._exit(0)
    try:
        serving.result()
    except* (BrokenPipeError, anyio.BrokenResourceError):
        pass  # The client has gone, and reads no answer.
    return 0


async def _first(*awaited: asyncio.Task[None] | Coroutine[Any, Any, Any]) -> None:
    tasks = [asyncio.ensure_future(each) for each in awaited]
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task, each in zip(tasks, awaited, strict=True):
        if task is not each:
            task.cancel()
