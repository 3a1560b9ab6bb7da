"""`segue key`: a key for a caller of the API."""

from __future__ import annotations

import hashlib
import secrets
from typing import Annotated, get_args

import typer

from segue.cli.console import out, plain_errors
from segue.contracts.errors import InvalidInput
from segue.settings.tree import Scope

SCOPES = get_args(Scope)


def key(
    name: Annotated[str, typer.Argument(help="What to call the caller in the settings, such as web-player.")],
    scope: Annotated[
        list[str] | None, typer.Option(help=f"{', '.join(SCOPES)}; may be given more than once.")
    ] = None,
    events_per_s: Annotated[int, typer.Option(min=0, help="Events a second it may send; 0: any number.")] = 0,
) -> None:
    """Make a key, and the lines for the settings file that let it in. The key itself is kept nowhere.

    Example: `segue key web-player --scope write --events-per-s 50`

    Next: put the lines into `segue.toml`, give the key to the caller, start `segue serve` anew.
    """
    with plain_errors():
        chosen = scope or ["write"]
        for one in chosen:
            if one not in SCOPES:
                raise InvalidInput(f"--scope: {one!r} is none of {', '.join(SCOPES)}", field="scope")
        if not name.replace("-", "").replace("_", "").isalnum():
            raise InvalidInput(f"{name!r}: use letters, digits, - and _", field="name")
        made = secrets.token_urlsafe(32)
    quoted = ", ".join(f'"{one}"' for one in dict.fromkeys(chosen))
    lines = [
        f"key: {made}",
        "",
        "put into segue.toml:",
        "",
        f"[serving.keys.{name}]",
        f'sha256 = "{hashlib.sha256(made.encode()).hexdigest()}"',
        f"scopes = [{quoted}]",
    ]
    if events_per_s:
        lines.append(f"events_per_s = {events_per_s}")
    out.print("\n".join(lines), markup=False, highlight=False, soft_wrap=True)
