"""Features of the request itself."""

from __future__ import annotations

from math import nan

from segue.features.definition import feature
from segue.features.expression import Facts, Value
from segue.features.relations import Context

OWNER = "personalization"


@feature(entity=Context, default=0.0, owner=OWNER)
def hour(request: Facts) -> Value:
    """UTC hour of the day, 0 to 23."""
    return request.hour


@feature(entity=Context, default=0.0, owner=OWNER)
def weekday(request: Facts) -> Value:
    """UTC weekday, Monday 0."""
    return request.weekday


@feature(entity=Context, default=0.0, owner=OWNER)
def weekend(request: Facts) -> Value:
    """1 on Saturday and Sunday, UTC."""
    return request.weekday >= 5


@feature(entity=Context, default=nan, owner=OWNER)
def surface(request: Facts) -> Value:
    """Number of the surface in the vocabulary, from 0."""
    return request.surface
