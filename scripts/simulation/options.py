"""The flags of `satmeter simulate`."""

from __future__ import annotations

from typing import Annotated

import typer


def simulate(
    seed: Annotated[int | None, typer.Option(min=0, help="One seed (0). The same one gives the same run.")] = None,
    seeds: Annotated[str | None, typer.Option(help="Many seeds instead, for example 0..199.")] = None,
    steps: Annotated[int, typer.Option(min=1, max=5_000, help="What clients do, and faults, in each seed.")] = 100,
    jobs: Annotated[int, typer.Option(min=1, max=256, help="Processes that share the seeds.")] = 1,
    verbose: Annotated[bool, typer.Option("--verbose", help="Print the whole history of each run.")] = False,
    shrink_s: Annotated[
        float, typer.Option("--shrink", min=0, help="Seconds to look for a shorter history of a broken promise.")
    ] = 60.0,
) -> None:
    """Run the real server in a simulated world where everything fails, and audit every write and every answer.

    Hosts die and stop, messages and confirmations get lost, the node pays late, clocks jump: all by the seed. The exit
    status is 1 when a promise was broken; the seed and the shortest history that was found are printed then.
    """
    from .cli import run_seeds

    raise typer.Exit(run_seeds(seed, seeds, steps, jobs, verbose=verbose, shrink_s=shrink_s))
