"""`segue demo`: the main job end to end, as `make demo` runs it."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from segue.cli.console import ConfigOption, HomeOption, SetOption, open_home, out, plain_errors
from segue.cli.data import run_import
from segue.cli.flow import run_flow
from segue.cli.simulate import run_simulation
from segue.cli.tables import evaluation_tables
from segue.contracts.errors import InvalidInput
from segue.contracts.tables import RAW_EVENTS
from segue.flows.publish import evaluation
from segue.flows.steps import BUILD, PUBLISH
from segue.settings import DEFAULT_HOME
from segue.simulation import SimulationConfig
from segue.wiring.simulate import is_broken_off


def demo(
    data: Annotated[
        str | None,
        typer.Option(help="Import this instead of simulating: FORMAT:PATH, as in 30music:sessions.parquet."),
    ] = None,
    serve: Annotated[bool, typer.Option(help="Serve at the end.")] = True,
    home: HomeOption = DEFAULT_HOME,
    settings: SetOption = None,
    config: ConfigOption = None,
) -> None:
    """Simulate a music service (or import real data), run the flow, evaluate, publish and serve.

    Example: `segue demo --home .demo`, or `segue demo --data 30music:sessions.parquet --home .music`

    Next: open the address it prints; docs/tutorial/first-hour.md goes on from there.
    """
    with plain_errors():
        chosen = open_home(home, [*(settings or ()), "gate.baselines=true"], config)
        size = SimulationConfig()
        out.rule("[bold]1 of 4[/] data")
        if data is not None:
            name, colon, path = data.partition(":")
            if not colon:
                raise InvalidInput(
                    f"--data: {data!r}; write it as FORMAT:PATH, as in 30music:sessions.parquet", field="data"
                )
            report, _ = run_import(chosen, name, Path(path), None)
            out.print(
                f"  {report.landed:,} plays landed, {report.duplicate:,} were there, "
                f"{report.listeners:,} listeners, {report.tracks:,} tracks"
            )
        elif chosen.engine.days(RAW_EVENTS) is None or is_broken_off(chosen, size):
            made = run_simulation(chosen, size)
            out.print(
                f"  {made.events:,} events of {size.listeners:,} listeners over {size.days} days, "
                f"{size.tracks:,} tracks ({made.seconds:.0f} s)"
            )
        else:
            out.print(f"  {chosen.root} already holds events; remove it to start anew")
        out.rule("[bold]2 of 4[/] tables")
        run_flow(chosen, [step.name for step in BUILD])
        out.rule("[bold]3 of 4[/] models, judged on the last days against baselines")
        run_flow(chosen, [step.name for step in PUBLISH])
        judged = evaluation(chosen.bundles.open())
        for table in evaluation_tables(judged) if judged is not None else ():
            out.print(table)
    if serve:
        out.rule("[bold]4 of 4[/] serving")
        # A fresh process: workers are forked from it, and must inherit no open store, thread or memory of the work above.
        options = ["--home", str(home), *(["--config", str(config)] if config else [])]
        options += [part for change in settings or () for part in ("--set", change)]
        sys.stdout.flush()
        os.execv(sys.executable, [sys.executable, "-m", "segue.cli", "serve", *options])
