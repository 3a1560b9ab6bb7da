"""One page of two answers to the same request: each slot of the main list is placed by one of them, and says by which.

Both answers kept the guarantees, for the same listener as they were read once, so their page does. They explore by the same
dice: where they agree, their draws do too. What a slot's chance was is not known in closed form, since it depends on all that
either might have placed above: an interleaved page has no propensities, and off-policy estimates leave it out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Final

import numpy as np
from msgspec.structs import replace as changed

from segue.contracts.experiments import Interleave
from segue.contracts.ids import parse_id
from segue.contracts.vocabulary import Team
from segue.models.interleaving import CONTROL, TREATMENT, Ids, Interleaved, competing_pairs, team_draft
from segue.recommend import shelves
from segue.recommend.api import Item, Shelf
from segue.recommend.pipeline import Answer, Removals, dice

KERNELS: Final[Mapping[Interleave, Callable[..., Interleaved]]] = {
    "team-draft": team_draft,
    "competing-pairs": competing_pairs,
}
_TEAMS: Final = {CONTROL: Team.CONTROL, TREATMENT: Team.TREATMENT}
_COINS: Final = 1
"""The stream of a request's random numbers that says which side goes first; the first one is exploration's."""


def interleaved(control: Answer, treatment: Answer, by: Interleave) -> Answer:
    """The control's answer with a main list of both.

    Shelves below are the control's, without what is shown above, and credited to neither; so are bundle, settings and what was
    removed. Of time and degraded stages the answer has the sum.
    """
    one, other = control.response, treatment.response
    request = control.query.request
    coins = dice(request, parse_id(one.request_id), _COINS).random(request.k) < 0.5
    page = KERNELS[by](_ids(one.items), _ids(other.items), request.k, coins)
    items = tuple(_slots(page, one.items, other.items))
    below = tuple(_below(one.shelves[1:], items))
    rows = (changed(one.shelves[0], items=items), *below) if one.shelves else ()
    response = changed(
        one,
        items=items,
        shelves=rows,
        trace=changed(
            one.trace,
            stages=(*one.trace.stages, *other.trace.stages),
            degraded=(*one.trace.degraded, *other.trace.degraded),
        ),
    )
    shown = [item.track_id for item in items]
    kept = ~np.isin(control.removals.tracks, control.query.catalogue.positions(shown))
    removals = Removals(control.removals.tracks[kept], control.removals.codes[kept])
    return replace(control, response=response, removals=removals)


def _ids(items: Iterable[Item]) -> Ids:
    return np.array([item.track_id for item in items], np.int64)


def _slots(page: Interleaved, control: tuple[Item, ...], treatment: tuple[Item, ...]) -> Iterator[Item]:
    """Each slot as the side that placed it has it; what both have as the control has it."""
    sides = [{item.track_id: item for item in items} for items in (control, treatment)]
    for position, (track, code) in enumerate(zip(page.tracks.tolist(), page.team.tolist(), strict=True)):
        side = (
            sides[code] if code in _TEAMS else sides[CONTROL] if track in sides[CONTROL] else sides[TREATMENT]
        )
        team = _TEAMS.get(code, Team.NEITHER)
        yield changed(side[track], position=position, propensity=None, team=team)


def _below(rows: tuple[Shelf, ...], above: tuple[Item, ...]) -> Iterator[Shelf]:
    shown, position = {item.track_id for item in above}, len(above)
    for row in rows:
        left = [item for item in row.items if item.track_id not in shown]
        if len(left) >= shelves.shortest(row.name):
            yield changed(
                row,
                items=tuple(
                    changed(item, position=position + n, propensity=None, team=Team.NEITHER)
                    for n, item in enumerate(left)
                ),
            )
            position += len(left)
