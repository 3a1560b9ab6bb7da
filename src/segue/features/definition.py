"""`@feature` turns a small function into a definition, and the registry keeps them in order.

    @feature(entity=Track, window=days(28), default=0.0, owner="discovery")
    def skip_rate(plays: Rows) -> Value:
        '''Share of plays given up before 30 s.'''
        return plays.skipped.mean()

defines `track_skip_rate_28d`: the entity's name, the function's, the window. Several windows make several features.
A parameter's name picks a relation of the entity or the facts of it (see `relations`).
"""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from math import isnan
from typing import Final

from segue.contracts.errors import InvalidInput, NotFound
from segue.contracts.vocabulary import DAY, HOUR
from segue.features.expression import Aggregate, Attribute, Facts, Rows, Span, Value, bind, leaves
from segue.features.relations import MARK_KINDS, MAX_AGE, Candidate, Entity, facts, relations

Function = Callable[..., Value]


@dataclass(frozen=True)
class Feature:
    """One feature. `value` is None for a candidate's feature, whose values come with the request.

    `relation` names the rows or facts it reads; a daily entity's feature may read several, joined by "+".
    """

    name: str
    entity: Entity
    window: Span | None
    default: float
    owner: str
    doc: str
    relation: str
    value: Value | float | None

    @property
    def fingerprint(self) -> str:
        """Changes whenever the feature's values could."""
        default = "nan" if isnan(self.default) else repr(self.default)
        return f"{self.name}|{self.entity.name}|{default}|{self.value!r}"


FEATURES: Final[dict[str, Feature]] = {}
"""Every feature by name, in the order of definition. Import `segue.features` to have it filled."""


def feature(
    *, entity: Entity, default: float, owner: str, window: Span | tuple[Span | None, ...] | None = None
) -> Callable[[Function], Function]:
    """Register the function's feature, one for each window.

    Marks need no window: without one, all standing marks count.
    `default` stands where the value is missing or the entity unknown; NaN leaves it to the model.
    Raises InvalidInput naming the feature if the definition asks for what its entity does not have.
    """

    def define(function: Function) -> Function:
        base = f"{entity.name}_{function.__name__}"
        value, relation = _trace(base, entity, function)
        for span in window if isinstance(window, tuple) else (window,):
            name = base if span is None else f"{base}_{_label(span)}"
            bound = bind(value, span)
            _check(name, entity, bound)
            doc = inspect.cleandoc(function.__doc__ or "")
            _register(Feature(name, entity, span, default, owner, doc, relation, bound))
        return function

    return define


def candidate(name: str, default: float, doc: str, owner: str = "retrieval") -> None:
    """Register a feature whose values the request pipeline computes and hands over by `name`."""
    _register(Feature(name, Candidate, None, default, owner, doc, "candidate", None))


def select(names: Iterable[str]) -> list[Feature]:
    """The features of those names, in that order. Raises NotFound for a name without a definition."""
    chosen = list(names)
    unknown = [name for name in chosen if name not in FEATURES]
    if unknown:
        raise NotFound(
            f"no feature is named {', '.join(unknown[:5])}; the model was trained with other definitions, train it anew",
            field="features",
        )
    return [FEATURES[name] for name in chosen]


def fingerprint(names: Iterable[str]) -> str:
    """A short hash of the definitions of those features: a model is served only with those it was trained on."""
    text = "\n".join(f.fingerprint for f in select(names))
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def _trace(name: str, entity: Entity, function: Function) -> tuple[Value, str]:
    known: dict[str, Rows | Facts] = {n: Rows(n, columns) for n, columns in relations(entity).items()}
    known |= {n: Facts(n, names) for n, names in facts(entity).items()}
    wanted = list(inspect.signature(function).parameters)
    missing = [p for p in wanted if p not in known]
    if missing or not wanted:
        raise InvalidInput(
            f"feature {name}: {entity.name} has no relation {', '.join(missing) or '(none is asked for)'}; "
            f"it has {', '.join(known)}",
            field=name,
        )
    if len(wanted) > 1 and not entity.daily:
        raise InvalidInput(
            f"feature {name}: reads {', '.join(wanted)}; a feature as of the moment reads one relation",
            field=name,
        )
    return function(*(known[p] for p in wanted)), "+".join(wanted)


def _check(name: str, entity: Entity, value: Value | float) -> None:
    for leaf in leaves(value):
        if isinstance(leaf, Attribute):
            continue
        window = leaf.within
        if window is None and leaf.relation in MARK_KINDS and not entity.daily:
            continue
        if window is None or not 0 < window <= MAX_AGE:
            raise InvalidInput(
                f"feature {name}: needs a window of at most {MAX_AGE // DAY} days",
                field=name,
                limit=f"{MAX_AGE // DAY} days",
            )
        if entity.daily and not _is_rolled_up(leaf, window):
            raise InvalidInput(
                f"feature {name}: {entity.name} features are made from daily counts, which know count, sum and mean of "
                "named columns over whole days, without where= or half_life=",
                field=name,
            )
        if leaf.op == "nunique" and (leaf.column is None or leaf.column.op != "column"):
            raise InvalidInput(f"feature {name}: nunique takes a named column", field=name)


def _is_rolled_up(leaf: Aggregate, window: Span) -> bool:
    plain = leaf.column is None or leaf.column.op == "column"
    return (
        leaf.op in ("count", "sum")
        and plain
        and leaf.where is None
        and leaf.half_life is None
        and window % DAY == 0
    )


def _register(new: Feature) -> None:
    if new.name in FEATURES:
        raise InvalidInput(f"feature {new.name} is defined twice; rename one", field=new.name)
    if not new.doc:
        raise InvalidInput(f"feature {new.name} has no docstring; say what it is", field=new.name)
    FEATURES[new.name] = new


def _label(span: Span) -> str:
    return f"{span // DAY}d" if span % DAY == 0 else f"{span // HOUR}h"
