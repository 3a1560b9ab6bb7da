"""`segue experiment analyze`, `aa`, `power`: what an experiment says, whether to believe it, how long the next must run."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from segue.cli.console import (
    ConfigOption,
    HomeOption,
    JsonOption,
    SetOption,
    err,
    open_home,
    out,
    plain_errors,
    print_json,
    working,
)
from segue.contracts.errors import InvalidInput
from segue.contracts.experiments import CONTROL
from segue.settings import DEFAULT_HOME

if TYPE_CHECKING:
    from segue.experiments.analysis import Analysis
    from segue.experiments.credited import Preferences
    from segue.wiring.home import Home

WIDTH = 136
"""Columns that a metric's table needs."""
COLOURS = {"ship": "green", "stop": "red", "wait": "yellow"}


def analyze_table(
    csv: Annotated[
        Path | None, typer.Option("--csv", "--parquet", help="The table: CSV with a header, or Parquet.")
    ] = None,
    unit: Annotated[
        str, typer.Option(help="Column of the unit that was assigned: a listener, say.")
    ] = "unit",
    variant: Annotated[str, typer.Option(help="Column of the variant that it got.")] = "variant",
    metric: Annotated[
        list[str] | None,
        typer.Option(
            help="A column, or `NAME,key=value,...` with kind, direction, role, margin, winsorize, quantile, mde, numerator, "
            "denominator, pre. May be given several times."
        ),
    ] = None,
    pre: Annotated[
        list[str] | None,
        typer.Option(
            help="Column of the metric's value before the start: the first is of the first metric, and so on."
        ),
    ] = None,
    control: Annotated[
        str | None,
        typer.Option(help="The variant to compare with; default: `control`, or the first by name."),
    ] = None,
    shares: Annotated[
        str | None, typer.Option(help="What each variant should have, as a=1,b=1; default: equal shares.")
    ] = None,
    segment: Annotated[list[str] | None, typer.Option(help="Column of segments to look at.")] = None,
    stratify: Annotated[str | None, typer.Option(help="Column to post-stratify by.")] = None,
    days: Annotated[
        Path | None, typer.Option(help="A second table, with the metrics by unit and day, for the course.")
    ] = None,
    day: Annotated[str, typer.Option(help="Column of the day in that table.")] = "day",
    alpha: Annotated[float, typer.Option(help="Share of false alarms that the decision allows.")] = 0.05,
    running: Annotated[
        bool,
        typer.Option(help="More units are to come: decide by numbers that hold however often one looks."),
    ] = False,
    planned: Annotated[
        int | None,
        typer.Option(help="Units there will be in the end: always-valid intervals are tightest there."),
    ] = None,
    experiment: Annotated[
        Path | None,
        typer.Option(
            help="The experiment's file: shares, alpha, what its metrics are held against, and whether and until when it runs."
        ),
    ] = None,
    report: Annotated[
        Path | None, typer.Option(help="Also write a page with plots; it opens without a network.")
    ] = None,
    json: JsonOption = False,
) -> None:
    """Analyse any experiment's table: a row per unit, with its variant and its metrics.

    The ratio of units comes first: where it is not what it should be, nothing else may be read.

    Example: `segue experiment analyze --csv ab.csv --unit user --variant group --metric minutes --pre minutes_before`

    Next: docs/how-to/experiment-analyze.md says what each number means; `segue experiment power` plans the next one.
    """
    with plain_errors():
        from segue.experiments.analysis import analyze
        from segue.experiments.asked import asked, named, of_file
        from segue.experiments.definition import read_experiment
        from segue.experiments.outside import read_table
        from segue.experiments.report import render

        if csv is None:
            raise InvalidInput("--csv FILE: which table?", field="csv")
        if report is not None and (report.is_dir() or not report.parent.is_dir()):
            raise InvalidInput(f"--report: {report} is no file in an existing directory", field="report")
        wanted = [asked(text, before) for text, before in _with_pre(metric or [], pre or [])]
        keep = [unit, variant, *(segment or []), *([stratify] if stratify else [])]
        columns = [column for one in wanted for column in one.columns.values()]
        table, metrics = named(read_table(csv, [*keep, *columns], keep), list(dict.fromkeys(keep)), wanted)
        by_day = None
        if days is not None:
            of_days = [one.by_day() for one in wanted]
            columns = [column for one in of_days for column in one.columns.values()]
            by_day, _ = named(read_table(days, [unit, day, *columns], [unit]), [unit, day], of_days)
        until = None
        weights = _shares(shares)
        if experiment is not None:
            one = read_experiment(experiment)
            metrics = of_file(one, metrics)
            weights = weights or {name: of.weight for name, of in one.variants.items()}
            control, alpha, until = control or CONTROL, one.power.alpha, one.ends
            running = running or datetime.now(UTC).date() < until
        found = analyze(
            table,
            metrics,
            control=control,
            shares=weights,
            unit=unit,
            variant=variant,
            days=by_day,
            day=day,
            segments=segment or [],
            stratify=stratify,
            alpha=alpha,
            running=running,
            planned=planned,
            until=until,
        )
        if report is not None:
            report.write_text(render(found, csv.name), encoding="utf-8")
    if json:
        print_json(found)
    else:
        print_analysis(found)
    if report is not None:
        err.print(f"report: {report}", highlight=False)


def check_by_aa(
    runs: Annotated[int, typer.Option(min=10, max=1_000_000, help="Experiments without any effect.")] = 1000,
    units: Annotated[int, typer.Option(min=100, max=10_000_000, help="Listeners in each.")] = 5000,
    days: Annotated[int, typer.Option(min=2, max=365, help="Days of each, with a look every day.")] = 14,
    seed: Annotated[int, typer.Option(min=0, help="Which draws.")] = 0,
    listeners: Annotated[
        str | None,
        typer.Option(
            metavar="COLUMN",
            help="Draw the home's own listeners into variants, by this column of daily_listeners, instead of made-up ones.",
        ),
    ] = None,
    json: JsonOption = False,
    home: HomeOption = DEFAULT_HOME,
    settings: SetOption = None,
    config: ConfigOption = None,
) -> None:
    """Check the analysis by A/A experiments: how often does it see an effect where there is none?

    Also: does a pre-period narrow the interval as theory says, and is a lost 1% of one variant's units noticed?

    Example: `segue experiment aa --runs 1000`; `segue experiment aa --listeners listens --home .demo`

    Next: docs/concepts/experiments.md says what the numbers should be and why.
    """
    with plain_errors(), working("A/A") as say:
        from segue.experiments.aa import check
        from segue.experiments.listening import history

        real = (
            None if listeners is None else history(open_home(home, settings, config).engine, listeners, days)
        )
        found = check(runs, units, days, seed, real, lambda done: say(f"A/A {done:,} of {runs:,}"))
    if json:
        print_json(found)
        return
    rates = found.false_positive_rate
    table = Table(
        Column("of experiments without an effect"), Column("see one", justify="right"), "should be", box=None
    )
    for said, rate, should in (
        ("looked at once, at the end", rates.fixed, "5%"),
        ("  with the pre-period (CUPED)", rates.fixed_cuped, "5%"),
        ("  a ratio (delta method)", rates.fixed_ratio, "5%"),
        ("looked at every day, always-valid", rates.always_valid_daily_peeking, "at most 5%"),
        ("  with the pre-period (CUPED)", rates.always_valid_cuped_daily_peeking, "at most 5%"),
        (
            "looked at every day, as if it were the end",
            rates.fixed_daily_peeking,
            "5%, and is not: never do this",
        ),
    ):
        table.add_row(said, f"{rate:.1%}", should)
    out.print(table)
    out.print(
        f"{found.runs:,} runs of {found.units:,} listeners and {found.days} days; a rate of 5% is known to "
        f"{found.monte_carlo_error:.1%}\n"
        f"p-values are uniform: p {found.p_uniform_ks:.2g} (Kolmogorov and Smirnov), with CUPED {found.p_uniform_ks_cuped:.2g}\n"
        f"width with the pre-period: {found.cuped_width_ratio:.3f} of that without; "
        f"theory says {found.cuped_width_ratio_theory:.3f}\n"
        f"{found.srm.leak:.0%} of one variant lost: noticed in {found.srm.detected:.1%} of runs of {found.srm.units:,} units "
        f"(theory: {found.srm.expected:.0%}); false alarms {found.srm.false_alarms:.1%} (at p < {found.srm.threshold:g})",
        highlight=False,
        soft_wrap=True,
    )


def plan(
    file: Annotated[
        Path | None,
        typer.Argument(help="An experiment's file: what each of its metrics needs, by the home's log."),
    ] = None,
    metric: Annotated[
        str, typer.Option(help="Column of daily_listeners in the home; with --mean just a name.")
    ] = "listens",
    mde: Annotated[
        float | None, typer.Option(help="The smallest relative effect that matters, such as 0.02.")
    ] = None,
    mean: Annotated[float | None, typer.Option(help="Of a unit, instead of a home's history.")] = None,
    sd: Annotated[float | None, typer.Option(help="With --mean: standard deviation of a unit.")] = None,
    traffic: Annotated[
        float | None, typer.Option(help="With --mean: new units a day, of all variants.")
    ] = None,
    correlation: Annotated[
        float | None, typer.Option(help="With --mean: of a unit's value with that before the start (CUPED).")
    ] = None,
    share: Annotated[
        float, typer.Option(min=0.0001, max=1, help="Share of the home's listeners that will be in it.")
    ] = 1.0,
    shares: Annotated[
        str, typer.Option(help="Of each variant, the control first, as control=1,treatment=1.")
    ] = "control=1,treatment=1",
    alpha: Annotated[float, typer.Option(help="Share of false alarms.")] = 0.05,
    power: Annotated[float, typer.Option(help="Chance of finding an effect that is there.")] = 0.8,
    days: Annotated[
        int, typer.Option(min=7, max=365, help="Longest experiment to look at, from a home.")
    ] = 56,
    json: JsonOption = False,
    home: HomeOption = DEFAULT_HOME,
    settings: SetOption = None,
    config: ConfigOption = None,
) -> None:
    """Say before the start how long an experiment must run, and which effect it could see.

    From what the home's listeners did, or from a mean, a standard deviation and the traffic. Of a file: as if it had run over the
    weeks behind, with its own assignment and without an effect.

    Example: `segue experiment power examples/experiments/mmr.toml`; `segue experiment power --metric listens --mde 0.02`;
    `segue experiment power --mean 52 --sd 110 --traffic 3000`

    Next: put the `mde` and the days into the experiment; look at whole weeks only.
    """
    with plain_errors():
        from segue.experiments.listening import history
        from segue.experiments.planning import from_history, from_numbers

        if file is not None:
            if mean is not None or mde is not None:
                raise InvalidInput("--mean and --mde go without a file, which has its own", field="mde")
            _plan_file(open_home(home, settings, config), file, json)
            return
        of = list((_shares(shares) or {}).values())
        if (mean is None) != (sd is None):
            raise InvalidInput("--mean and --sd go together", field="mean")
        if mean is not None and sd is not None:
            found = from_numbers(metric, mean, sd, traffic, mde, correlation, of, alpha, power)
        else:
            for name, given in (("traffic", traffic), ("correlation", correlation)):
                if given is not None:
                    raise InvalidInput(
                        f"--{name} goes with --mean and --sd; a home's history has its own", field=name
                    )
            past = history(open_home(home, settings, config).engine, metric, days)
            found = from_history(metric, past, mde, share, of, alpha, power)
    if json:
        print_json(found)
        return
    if found.horizons:
        numbers = ("days", "units", "mean", "sd", "finds", "correlation", "with CUPED")
        table = Table(*(Column(name, justify="right") for name in numbers), title=found.metric, box=None)
        for one in found.horizons:
            table.add_row(
                f"{one.days:g}",
                f"{one.units:,}",
                f"{one.mean:.4g}",
                f"{one.sd:.4g}",
                f"{one.mde:.2%}",
                "" if one.correlation is None else f"{one.correlation:.2f}",
                "" if one.mde_cuped is None else f"{one.mde_cuped:.2%}",
            )
        out.print(table)
    if found.mde is not None:
        needs = "is not reached in these days" if found.units is None else f"needs {found.units:,} units"
        lasting = "" if found.days is None else f", {found.days:,.0f} days"
        out.print(
            f"an effect of {found.mde:.2%} {needs}{lasting}, with a power of {found.power:.0%}",
            highlight=False,
        )


def _plan_file(home: Home, file: Path, json: bool) -> None:
    from segue.experiments.baseline import needed
    from segue.experiments.definition import check, read_experiment, surfaces_of

    one = read_experiment(file)
    check(one, home.settings)
    with working(f"weeks before {one.name}"):
        found = needed(home.engine, one, surfaces_of(one, home.settings))
    if json:
        print_json(found)
        return
    weeks = [f"{of.days} days find" for of in found.metrics[0].course]
    table = Table(
        "metric", "is", *(Column(n, justify="right") for n in ("wanted", *weeks, "needs")), box=None
    )
    for needs in found.metrics:
        lasts = "" if needs.wanted is None else "nothing to compare"
        if needs.days is not None:
            lasts = f"{needs.days} days"
        elif needs.at_least is not None:
            lasts = f"more than {needs.at_least:,} days"
        shown = ["" if of.finds is None else f"{of.finds:.2%}" for of in needs.course]
        table.add_row(
            needs.metric, needs.role, "" if needs.wanted is None else f"{needs.wanted:.2%}", *shown, lasts
        )
    Console(width=max(out.width, WIDTH)).print(table)  # numbers that are cut off are none
    units = ", ".join(f"{of.units:,} units in {of.days} days" for of in found.metrics[0].course)
    out.print(f"from {found.first} to {found.last}: {units}", highlight=False, soft_wrap=True)
    enough = found.days is not None and found.days <= found.planned
    need = "more than can be told from these weeks" if found.days is None else f"{found.days} days"
    colour = "green" if enough else "yellow"
    out.print(
        f"[bold {colour}]{one.name} is planned for {found.planned} days and needs {need}[/], for a power of {found.power:.0%}",
        highlight=False,
        soft_wrap=True,
    )


def print_analysis(found: Analysis) -> None:
    """The ratio of units first, then every metric, then the decision."""
    wide = Console(width=max(out.width, WIDTH))  # numbers that are cut off are none
    colour, said = ("red", "MISMATCH") if found.srm.mismatch else ("green", "as it should be")
    always = found.srm.always_valid_p
    p = f"p {found.srm.p:.4g}" if always is None else f"always-valid p {always:.4g}"
    units = ", ".join(f"{escape(name)} {n:,}" for name, n in found.units.items())
    out.print(
        f"units: {units}; their ratio: [{colour}]{said}[/] ({p}, mismatch below {found.srm.threshold:g})",
        highlight=False,
        soft_wrap=True,
    )
    for warning in found.warnings:
        _warn(warning)
    for name, result in found.metrics.items():
        level_of = "95%, always-valid" if found.running else "95%"  # what the decision goes by
        numbers = (
            "units",
            "level",
            "effect",
            level_of,
            "relative",
            level_of,
            "p",
            "always-valid p",
            "method",
        )
        table = Table(
            Column(escape(name)), *(Column(n, justify="right", no_wrap=True) for n in numbers), box=None
        )
        control = result.variants.get(found.control)
        if control is not None:
            table.add_row(escape(found.control), f"{control.n:,}", f"{control.mean:.5g}")
        for one in result.comparisons:
            level = result.variants.get(one.variant)
            valid = one.always_valid
            interval = one.ci95 if valid is None or not found.running else valid.ci95
            relative = one.relative_interval(found.running)
            table.add_row(
                escape(one.variant),
                "" if level is None else f"{level.n:,}",
                "" if level is None else f"{level.mean:.5g}",
                "" if one.effect is None else f"{one.effect:+.4g}",
                "" if interval is None else f"{interval[0]:+.4g} to {interval[1]:+.4g}",
                "" if one.relative is None else f"{one.relative:+.2%}",
                "" if relative is None else f"{relative[0]:+.2%} to {relative[1]:+.2%}",
                "" if one.p is None else f"{one.p:.3g}",
                "" if valid is None else f"{valid.p:.3g}",
                one.method,
            )
        wide.print(table)
        for one in result.comparisons:
            if (w := one.winsorized) is not None:
                out.print(
                    f"  {escape(one.variant)} with values above {w.cap:,.6g} set to it: {w.effect:+.4g} "
                    f"[{w.ci95[0]:+.4g}, {w.ci95[1]:+.4g}], p {w.p:.3g}",
                    highlight=False,
                )
        for part in result.segments:
            out.print(
                f"  by {escape(part.column)}, {escape(part.variant)}: {escape(part.warning)}", soft_wrap=True
            )
            for one_segment in part.segments:
                out.print(
                    f"    {escape(one_segment.segment)} ({one_segment.units:,}): {one_segment.effect:+.4g}, "
                    f"shrunk {one_segment.shrunk:+.4g} [{one_segment.shrunk_ci95[0]:+.4g}, {one_segment.shrunk_ci95[1]:+.4g}]",
                    highlight=False,
                )
        for course in result.courses:
            out.print(
                f"  over days, {escape(course.variant)}: {course.said}", highlight=False, soft_wrap=True
            )
        for warning in result.warnings:
            _warn(warning)
    colour = COLOURS[found.decision.verdict]
    out.print(f"[bold {colour}]{escape(found.decision.said)}[/]", highlight=False, soft_wrap=True)
    for reason in found.decision.reasons:
        out.print(f"  - {escape(reason)}", highlight=False, soft_wrap=True)


def print_preferences(found: Preferences) -> None:
    """What was preferred, by variant and goal, then what follows."""
    out.print(f"{found.experiment}, {found.first} to {found.last}: interleaved pages", highlight=False)
    shown = ", ".join(f"{name} {count:,}" for name, count in found.answers.items())
    out.print(f"answers: {shown}", highlight=False)
    numbers = ("listeners", "slots", "credited", "lead", "95%", "p", "always-valid p", "prefer it", "fair")
    table = Table(
        *(Column(name, no_wrap=True) for name in ("variant", "goal")),
        *(Column(name, justify="right", no_wrap=True) for name in numbers),
        box=None,
    )
    for variant, goals in found.preferences.items():
        for goal, one in goals.items():
            table.add_row(
                variant,
                goal,
                f"{one.listeners:,}",
                f"{one.slots:,}",
                f"{one.credited:,}",
                f"{one.lead:+.2%}",
                f"{one.lead_ci95[0]:+.2%} to {one.lead_ci95[1]:+.2%}",
                f"{one.lead_p:.3g}",
                f"{one.always_valid.p:.3g}",
                f"{one.preference:.1%} of {one.wins + one.losses:,}",
                "yes" if one.fair else "NO",
            )
    Console(width=max(out.width, WIDTH + 40)).print(table)
    colour = COLOURS["ship" if found.decision.verdict == "test" else found.decision.verdict]
    out.print(f"[bold {colour}]{escape(found.decision.said)}[/]", highlight=False, soft_wrap=True)
    for reason in found.decision.reasons:
        out.print(f"  - {escape(reason)}", highlight=False, soft_wrap=True)


def _warn(warning: str) -> None:
    out.print(f"  [yellow]warning[/]: {escape(warning)}", highlight=False, soft_wrap=True)


def _with_pre(metrics: list[str], pre: list[str]) -> list[tuple[str, str | None]]:
    if len(pre) > len(metrics):
        raise InvalidInput(
            f"--pre is given {len(pre)} times and --metric {len(metrics)} times: the n-th belongs to the n-th",
            field="pre",
        )
    return [(text, pre[n] if n < len(pre) else None) for n, text in enumerate(metrics)]


def _shares(text: str | None) -> dict[str, float] | None:
    if text is None:
        return None
    found = {}
    for part in text.split(","):
        name, _, share = part.rpartition("=")
        if name.strip() in found:
            raise InvalidInput(f"--shares {text}: {name.strip()} is named twice", field="shares")
        try:
            found[name.strip()] = float(share)
        except ValueError:
            raise InvalidInput(f"--shares {text}: {part!r} is not NAME=NUMBER", field="shares") from None
        if not name.strip() or not 1e-6 <= found[name.strip()] <= 1e6:
            raise InvalidInput(
                f"--shares {text}: {part!r} is not NAME=NUMBER above 0, from a millionth to a million",
                field="shares",
                limit="0.000001 to 1000000",
            )
    return found
