"""`segue experiment`: the commands about experiments."""

from __future__ import annotations

import typer

from segue.cli import experiment_analysis

app = typer.Typer(help="Analyse experiments, check the analysis, plan the next.", no_args_is_help=True)
app.command("analyze")(experiment_analysis.analyze_table)
app.command("aa")(experiment_analysis.check_by_aa)
app.command("power")(experiment_analysis.plan)
