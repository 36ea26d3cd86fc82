"""Banner of `satmeter serve`: its parts, real or stubs, its address, and a first command."""

from __future__ import annotations

from typing import Final

from rich.console import Console
from rich.table import Table

from ...actors.adapters.lightning_backends import backend_of
from ...actors.domain.provider_faults import ModelFault
from ...config.settings import Settings
from ..preflight import settings_checks

_REAL = "[green]real[/]"
_STUB = "[yellow]stub[/]"
_FAILS: Final = "The model provider fails just now."
_AWAY: Final = {
    ModelFault.UNREACHABLE: "The model provider can't be reached: `satmeter check` looks at its address and key.",
    ModelFault.REFUSED: "The model provider does not accept ANTHROPIC_API_KEY, or its account lacks credit or rights.",
}
_UNTIL: Final = "Nothing is sold until it answers, which the server checks by itself."


def url_of(settings: Settings, port: int) -> str:
    """Return the address at which a client of this machine finds the server."""
    host = settings.host if settings.host not in ("0.0.0.0", "::") else "127.0.0.1"  # noqa: S104 - only shown
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


def parts_of(settings: Settings) -> dict[str, str]:
    """Return what each part of the server is, for a log entry."""
    return {
        part.name.lower(): f"{'real' if part.real else 'stub'}: {part.detail}"
        for part in settings_checks.parts(settings)
    }


def trouble_of(model_fault: ModelFault | None) -> str:
    """Return why nothing is sold just now, or ""."""
    return "" if model_fault is None else f"{_AWAY.get(model_fault, _FAILS)} {_UNTIL}"


def show_banner(console: Console, settings: Settings, port: int, model_fault: ModelFault | None = None) -> None:
    """Print the parts, the address and a first command; and the reason if nothing is sold for now."""
    url = url_of(settings, port)
    table = Table.grid(padding=(0, 2))
    for part in settings_checks.parts(settings):
        table.add_row(part.name, _REAL if part.real else _STUB, part.detail)
    console.print()
    console.print(f"[bold]Satmeter serves at {url}[/]", highlight=False, soft_wrap=True)
    console.print(f"Documentation: {url}/docs", highlight=False, soft_wrap=True)
    console.print(table, highlight=False)
    if trouble := trouble_of(model_fault):
        console.print(f"\n[bold yellow]{trouble}[/]", highlight=False)
    console.print("\nTry it:\n", highlight=False)
    console.out(_first_commands(settings, url), highlight=False)
    console.print("\nCtrl-C or SIGTERM ends it.", highlight=False)


def first_command(url: str) -> str:
    """Return a command that makes a job."""
    body = '{"request": "Name three uses of a sextant."}'
    return f"curl -s {url}/jobs -H 'Content-Type: application/json' -d '{body}'"


def _first_commands(settings: Settings, url: str) -> str:
    create = f"  {first_command(url)}"
    if not backend_of(settings).stub:
        return f"{create}\n  # pay evalInvoice.paymentRequest with a wallet, then:\n  curl -s {url}/jobs/JOB_ID"
    return (
        f"{create}\n"
        f"  curl -s -X POST {url}/dev/stub/pay/PAYMENT_HASH     # of evalInvoice, then of workInvoice\n"
        f"  curl -s {url}/jobs/JOB_ID"
    )
