"""Estimators of a page's value: the sum of what its slots earn, per request. Pages are filled slot by slot, and the log has of
each slot its propensity given the slots before it.

| name       | a slot's part                       | assumes of what a slot earns    | source                         |
|------------|-------------------------------------|---------------------------------|--------------------------------|
| iips       | u r / (1 - mean repeated)            | depends on nothing above it     | Li et al., KDD 2018            |
| sniips     | u r / mean of u at its position     | the same                        |                                |
| iips-dr    | V + u (r - q)                       | the same                        |                                |
| rips       | w1 ... wk r                         | may depend on all above it      | McInerney et al., KDD 2020     |
| snrips     | the same / its mean at the position | the same                        |                                |
| cascade-dr | w1 ... wk (r - Q) + w1 ... w(k-1) E | the same; scatters less         | Kiyohara et al., WSDM 2022     |

w = target / propensity is the weight of a slot given the slots above it. u = marginal / usual: the judged policy's chance of the
track in that slot whatever stands above, over the log's. Where the log's own policy is not known, all there is of the latter is
the logged chance given what stood above. Those weights add up to what is left, too, but few and heavy ones do it: a slot that was
drawn moves all that follow, and what usually stands in a slot then has next to no chance there. A track that already stood above
had none at all: `repeated` is the judged policy's chance of such; iips divides by the rest at each position, sniips by the
weights themselves, and iips-dr leaves it to the model. q, V, Q and E are the model's: the reward of what was shown and, on
average, of what would be; Q and E add what the slots below would earn.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np
from numba import njit

from segue.experiments.offpolicy.logged import Floats, Longs

INDEPENDENT: Final = ("iips", "sniips", "iips-dr")
CASCADE: Final = ("rips", "snrips", "cascade-dr")


@dataclass(frozen=True)
class Pages:
    """Slots of pages, request by request and from the top; all of length n, checked by `logged.logged` where they come from.

    request int64[n] ascending; position int64[n] from 0; reward, propensity, target, marginal, repeated float64[n]; unit
    int64[n]; model: of the reward; None without one. usual float64[n]: the log's chance of the track in that slot whatever stood
    above, and `repeated` 0, where its policy is known; elsewhere the propensity. None: known nowhere.
    """

    request: Longs
    position: Longs
    reward: Floats
    propensity: Floats
    target: Floats
    marginal: Floats
    repeated: Floats
    unit: Longs
    model: PageModel | None = None
    usual: Floats | None = None

    @cached_property
    def first(self) -> Longs:
        """Row of the first slot of each request."""
        return np.flatnonzero(np.diff(self.request, prepend=self.request[0] - 1)).astype(np.int64)

    @cached_property
    def slot_weight(self) -> Floats:
        """u. float64[n]."""
        weight: Floats = self.marginal / (self.propensity if self.usual is None else self.usual)
        return weight

    @cached_property
    def page_weight(self) -> Floats:
        """w1 ... wk. float64[n]."""
        weight: Floats = _running_product(self.target / self.propensity, self.position)
        return weight

    @cached_property
    def units(self) -> Longs:
        """The unit of each request."""
        units: Longs = self.unit[self.first]
        return units


@dataclass(frozen=True)
class PageModel:
    """What a model expects, per slot, float64[n] each.

    shown, would: of what was shown, and on average of what the judged policy shows there (q and V); page_shown, page_would: of
    this slot and all below it, given the slots above (Q and E).
    """

    shown: Floats
    would: Floats
    page_shown: Floats
    page_would: Floats


@dataclass(frozen=True)
class PageTerms:
    """An estimate: value per request; influence float64[requests] with the value as its mean; ess, effective requests."""

    value: float
    influence: Floats
    ess: float


def page_terms(pages: Pages) -> dict[str, PageTerms]:
    """Every estimator's terms by name; those with a model only where there is one, `dm` among them."""
    slot, page, reward = pages.slot_weight, pages.page_weight, pages.reward
    left = 1.0 - np.bincount(pages.position, pages.repeated) / np.bincount(pages.position)
    found = {
        "iips": _summed(pages, slot * reward / np.maximum(left, 1e-9)[pages.position], slot),
        "sniips": _normalised(pages, slot),
        "rips": _summed(pages, page * reward, page),
        "snrips": _normalised(pages, page),
    }
    if pages.model is not None:
        model = pages.model
        before = np.where(pages.position == 0, 1.0, np.roll(page, 1))
        cascade = page * (reward - model.page_shown) + before * model.page_would
        found["iips-dr"] = _summed(pages, model.would + slot * (reward - model.shown), slot)
        found["cascade-dr"] = _summed(pages, cascade, page)
        found["dm"] = _summed(pages, model.would, np.ones(len(slot)))
    return found


def _summed(pages: Pages, parts: Floats, weight: Floats) -> PageTerms:
    per_request = np.add.reduceat(parts, pages.first)
    return PageTerms(float(per_request.mean()), per_request, _ess(pages, weight))


def _normalised(pages: Pages, weight: Floats) -> PageTerms:
    """Each position's weights divided by their mean."""
    count = np.bincount(pages.position)
    mean = np.bincount(pages.position, weight) / count
    rate = np.bincount(pages.position, weight * pages.reward) / np.maximum(count * mean, 1e-300)
    scaled = weight / np.maximum(mean, 1e-300)[pages.position]
    found = _summed(pages, scaled * pages.reward, weight)
    pull = scaled * (pages.reward - rate[pages.position]) + rate[pages.position]
    return PageTerms(found.value, np.add.reduceat(pull, pages.first), found.ess)


def _ess(pages: Pages, weight: Floats) -> float:
    """Kish's effective size at each position, averaged over the positions."""
    total = np.bincount(pages.position, weight)
    squares = np.bincount(pages.position, weight * weight)
    return float(np.mean(np.where(squares > 0, total**2 / np.maximum(squares, 1e-300), 0.0)))


@njit(cache=True, nogil=True)
def _running_product(weight: Floats, position: Longs) -> Floats:
    out = np.empty(len(weight))
    product = 1.0
    for i in range(len(weight)):
        product = weight[i] if position[i] == 0 else product * weight[i]
        out[i] = product
    return out
