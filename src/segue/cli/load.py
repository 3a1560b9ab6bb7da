"""`segue load`: open-loop load on a server, and how it bore it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer
from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Column, Table

from segue.cli.console import JsonOption, err, out, plain_errors, print_json, working
from segue.contracts.errors import InvalidInput, InvalidSettings
from segue.contracts.ids import MAX_ID
from segue.load.listeners import known_listeners
from segue.load.plan import Plan, address_of
from segue.load.report import Report, Requests


def load(
    url: Annotated[str, typer.Argument(help="The server, as http://127.0.0.1:8080.")],
    rate: Annotated[
        float, typer.Option(help="Requests a second, of all kinds; sessions arrive as often as makes them.")
    ] = 50.0,
    duration: Annotated[float, typer.Option(help="Seconds in all, warm-up included.")] = 60.0,
    warm_up: Annotated[float, typer.Option(help="Seconds at the start that are not counted.")] = 10.0,
    connections: Annotated[int, typer.Option(help="Most connections, over all processes.")] = 64,
    processes: Annotated[int, typer.Option(help="Processes of the generator.")] = 1,
    listeners: Annotated[
        str | None, typer.Option(help="Ids of the listeners, as 1-1000; default: the server is asked.")
    ] = None,
    k: Annotated[int, typer.Option("-k", help="Tracks of an answer.")] = 20,
    speed: Annotated[
        float, typer.Option(help="Seconds of listening that pass in one second; 1 is as people listen.")
    ] = 60.0,
    day: Annotated[
        bool, typer.Option("--day", help="Let the rate rise and fall over the run as over a day.")
    ] = False,
    timeout: Annotated[float, typer.Option(help="Seconds after which an answer is given up.")] = 10.0,
    seed: Annotated[int, typer.Option(help="The same seed, the same sessions.")] = 1,
    key: Annotated[str | None, typer.Option(help="A key with the scopes read and write.")] = None,
    acknowledged: Annotated[
        Path | None,
        typer.Option(help="Add the acknowledged events to this file, one JSON object a line, to count them."),
    ] = None,
    allow_remote: Annotated[
        bool,
        typer.Option("--allow-remote", help="The server is on another machine, and its operators agreed."),
    ] = False,
    json: JsonOption = False,
) -> None:
    """Put open-loop load on a server, and report latencies and errors.

    Listening sessions arrive whether the server keeps up or not. A session opens home, plays what it is shown, skips, likes and
    hides, asks for more, and sends its events back. Latencies count from the moment a request was due. Ctrl-C ends the run
    early, with a report.

    Example: `segue load http://127.0.0.1:8080 --rate 50 --duration 60`

    Next: `segue run` lands the events it sent; docs/how-to/load.md says how to read the report.
    """
    with plain_errors():
        run = _generator()
        address = address_of(url, remote_allowed=allow_remote)
        plan = Plan(
            address=address,
            listeners=known_listeners(address, key) if listeners is None else _ids(listeners),
            rate=rate,
            duration_s=duration,
            warm_up_s=warm_up,
            connections=connections,
            processes=processes,
            timeout_s=timeout,
            speed=speed,
            shape=_hours() if day else (1.0,),
            k=k,
            seed=seed,
            key=key,
            acknowledged=acknowledged,
        )
        with working("warming up") as say:
            report = run(plan, lambda now: say(_line(now, plan)))
    if json:
        print_json(report)
    else:
        _print(report)


def _generator() -> Callable[[Plan, Callable[[Report], None]], Report]:
    try:
        from segue.load.run import run
    except ModuleNotFoundError as error:
        raise InvalidSettings(
            f"load: needs the package {error.name}; install it with `pip install 'segue[load]'`", field="load"
        ) from error
    return run


def _ids(text: str) -> range:
    """A range of ids, both ends included."""
    first, dash, last = text.partition("-")
    if not (dash and first.isdecimal() and last.isdecimal() and int(first) <= int(last) <= MAX_ID):
        raise InvalidInput(
            f"--listeners: {text[:60]!r}; write the first and the last id, as 1-1000", field="listeners"
        )
    return range(int(first), int(last) + 1)


def _hours() -> tuple[float, ...]:
    from segue.simulation.words import HOURS

    return tuple(float(share) for share in HOURS)


def _line(now: Report, plan: Plan) -> str:
    if not now.seconds:
        return "warming up"
    faults = sum(now.total.errors.values())
    return (
        f"{now.seconds:.0f} s of {plan.duration_s - plan.warm_up_s:.0f}: {now.achieved:.1f} requests/s of {now.intended:.1f}, "
        f"p99 {now.total.latency.p99_ms:.1f} ms, {faults} failed"
    )


def _print(report: Report) -> None:
    names = ("due", "good", "p50", "p95", "p99", "p99.9", "max", "failed")
    columns = (Column(name, justify="right", no_wrap=True) for name in names)
    table = Table("request", *columns, box=SIMPLE_HEAD, pad_edge=False)
    for name, requests in (*report.requests.items(), ("all", report.total)):
        table.add_row(name, *_cells(requests))
    out.print(table)
    out.print(
        f"{report.achieved:,.1f} requests/s were answered of {report.intended:,.1f} that were due, for {report.seconds:,.1f} s; "
        f"{report.sessions:,} sessions; latencies in ms, from when a request was due"
    )
    for what, count in sorted(report.total.errors.items()):
        out.print(f"[red]failed[/]: {count:,} x {escape(what)}", highlight=False)
    refused = sum(report.events_refused.values())
    reasons = ", ".join(f"{count:,} {escape(reason)}" for reason, count in report.events_refused.items())
    out.print(
        f"events: {report.events_sent:,} sent, {report.events_acknowledged:,} acknowledged"
        + (f", {refused:,} refused ({reasons})" if refused else "")
        + f"; {report.bytes_in / 1e6:,.1f} MB in, {report.bytes_out / 1e6:,.1f} MB out"
    )
    own = report.generator
    out.print(
        f"the generator: {own.cpu_us_per_request:.0f} us of CPU a request, {own.cores:.2f} cores, "
        f"late by {own.late_p99_ms:.2f} ms (p99), {own.late_max_ms:.1f} ms at most"
    )
    for doubt in report.doubts:
        err.print(f"[yellow]doubtful[/]: {doubt}", highlight=False, soft_wrap=True)


def _cells(requests: Requests) -> tuple[str, ...]:
    latency = requests.latency
    times = (latency.p50_ms, latency.p95_ms, latency.p99_ms, latency.p99_9_ms, latency.max_ms)
    return (
        f"{requests.intended:,}",
        f"{requests.answered:,}",
        *(f"{ms:,.1f}" if ms < 1_000 else f"{ms:,.0f}" for ms in times),
        f"{sum(requests.errors.values()):,}",
    )
