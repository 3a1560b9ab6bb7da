"""`segue recommend`: one answer, in this process."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from segue.cli.console import (
    ConfigOption,
    HomeOption,
    JsonOption,
    SetOption,
    open_home,
    out,
    plain_errors,
    print_json,
)
from segue.contracts.vocabulary import Removed
from segue.recommend.api import Request, Response
from segue.serving.operations import MAX_SESSION
from segue.serving.parameters import Choices, Country, Form, Id, Ids, Integer, Parameter
from segue.settings import DEFAULT_HOME
from segue.wiring.platform import HomePlatform

MOSTLY = 0.5
"""A slot given with a smaller chance was drawn to explore: the best candidate has its slot with nearly all of the chance."""


def recommend(
    user: Annotated[
        str | None,
        typer.Option(
            help="The listener: an id, or SOURCE:ID where ids are text; leave it out for a stranger."
        ),
    ] = None,
    surface: Annotated[str, typer.Option(help="home, station, next-up or related.")] = "home",
    k: Annotated[int, typer.Option("-k", help="How many tracks.")] = 20,
    track: Annotated[str | None, typer.Option(help="Seed track of station and related.")] = None,
    artist: Annotated[str | None, typer.Option(help="Seed artist of station.")] = None,
    session: Annotated[str | None, typer.Option(help="Tracks played so far, for next-up: 12,7,99.")] = None,
    country: Annotated[str | None, typer.Option(help="Where the listener is, ISO code.")] = None,
    now: Annotated[
        int | None, typer.Option(help="Moment of the request, UTC microseconds; default: the present.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of exploration, for a repeatable answer.")] = None,
    variants: Annotated[
        str | None, typer.Option(help="Show what a variant answers, whoever asks: EXPERIMENT:VARIANT,...")
    ] = None,
    why: Annotated[bool, typer.Option("--why", help="Say why each track is there.")] = False,
    json: JsonOption = False,
    home: HomeOption = DEFAULT_HOME,
    settings: SetOption = None,
    config: ConfigOption = None,
) -> None:
    """Answer one request from the published bundle, in this process.

    Example: `segue recommend --user 12 --why`, `segue recommend --user my-service:ana` where ids are text,
    `segue recommend --surface station --track 42`, and without `--user` what a stranger gets.

    Next: `segue serve` answers the same over HTTP; `--json` shows scores, sources, chances and the trace of every stage.
    """
    with plain_errors():
        given = {
            "user_id": _read("--user", Id("user"), user),
            "track_id": _read("--track", Id("track"), track),
            "artist_id": _read("--artist", Id("artist"), artist),
            "session": _read("--session", Ids(MAX_SESSION), session),
            "country": _read("--country", Country(), country),
            "now": _read("--now", Integer(), now),
            "seed": _read("--seed", Integer(), seed),
            "variants": _read("--variants", Choices(), variants),
        }
        platform = HomePlatform(open_home(home, settings, config))
        try:
            response = platform.recommend(Request(surface=surface, k=k, why=why, **given))
        finally:
            platform.close()
    if json:
        print_json(response)
    else:
        _print(response)


def _read(option: str, form: Form, given: str | int | None) -> Any:
    """An option by the rules of the HTTP parameter of the same name."""
    return None if given is None else Parameter(option, form, "", "").parse(str(given))


def _print(response: Response) -> None:
    table = Table(title=f"{response.surface}, bundle {response.bundle}", title_justify="left")
    for heading in ("#", "id"):
        table.add_column(heading, justify="right", no_wrap=True)
    asked = any(item.why for item in response.items)
    for heading in ("track", "why" if asked else "sources"):
        table.add_column(heading)
    for item in response.items:
        explored = "to explore: " if item.propensity is not None and item.propensity < MOSTLY else ""
        side = f"{item.team}: " if item.team is not None else ""
        table.add_row(
            str(item.position + 1),
            str(item.track_id),
            escape(" · ".join(filter(None, (item.title, item.artist, item.genre)))),
            side + explored + escape(item.why.text if item.why else ", ".join(item.sources)),
        )
    out.print(table)
    removed = ", ".join(
        f"{n} {'outscored' if reason == Removed.LOST else reason}"
        for reason, n in response.trace.removed.items()
    )
    spent = sum(stage.ms for stage in response.trace.stages)
    person = "personal" if response.trace.personalized else "not personal: no history was read"
    if response.trace.variants:
        given = ", ".join(f"{name} {variant}" for name, variant in response.trace.variants.items())
        out.print(f"experiments: {given}", highlight=False)
    out.print(f"{person}; {spent:.1f} ms; removed: {removed or 'nothing'}")
