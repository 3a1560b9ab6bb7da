"""The fitted retrieval models of a bundle."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Protocol, Self

import msgspec
import numpy as np
import numpy.typing as npt

from segue.bundle import Bundle, BundleWriter
from segue.models.content import Content
from segue.models.ials import IALS, IALSConfig
from segue.models.item_knn import Neighbours
from segue.models.popularity import Popular, Popularity
from segue.models.sequence_rules import SequenceRules, SequenceRulesConfig
from segue.models.session_knn import SessionKNN, SessionKNNConfig
from segue.models.transitions import TransitionsConfig

BLANK: Final[dict[str, dict[str, float]]] = {
    "ials": {"item_factors": 0},
    "graph": {"ids": -1, "weights": 0},
    "co_listens": {"ids": -1, "weights": 0},
    "rules": {"ids": -1, "weights": 0},
    "session_knn": {"rarity": 0},
    "popular": {"counts": 0},
    "content": {"vectors": 0},
}
"""By model: its arrays that have a row per track, and what stands in the row of one that nothing is known of."""
ENDS: Final = {"session_knn": "track_indptr", "content": "indptr"}
"""By model: its array that says where each track's part ends."""


class Savable(Protocol):
    """A fitted model: arrays to save."""

    def arrays(self) -> dict[str, npt.NDArray[np.generic]]: ...


@dataclass(frozen=True)
class Retrieval:
    """The fitted retrieval models over one catalogue."""

    ials: IALS
    graph: Neighbours
    co_listens: Neighbours
    rules: SequenceRules
    session_knn: SessionKNN
    transitions: TransitionsConfig
    popularity: Popularity
    popular: Popular
    content: Content

    def save(self, writer: BundleWriter) -> None:
        """Write the models into a bundle."""
        models: dict[str, Savable] = {
            "ials": self.ials,
            "graph": self.graph,
            "co_listens": self.co_listens,
            "rules": self.rules,
            "session_knn": self.session_knn,
            "popularity": self.popularity,
            "popular": self.popular,
            "content": self.content,
        }
        for name, model in models.items():
            arrays, blank = model.arrays(), dict(BLANK.get(name, {}))
            if name in ENDS:
                blank[ENDS[name]] = int(arrays[ENDS[name]][-1])
            writer.arrays(f"models/{name}", arrays, blank)
        configs = {
            "ials": self.ials.config,
            "rules": self.rules.config,
            "session_knn": self.session_knn.config,
            "transitions": self.transitions,
        }
        writer.json("models/configs", configs)

    @classmethod
    def load(cls, bundle: Bundle) -> Self:
        """The models of a bundle, memory-mapped. The content vectors may be written to; only this process sees it."""
        configs = bundle.json("models/configs")

        def arrays(name: str) -> dict[str, npt.NDArray[Any]]:
            return bundle.arrays(f"models/{name}")

        return cls(
            ials=IALS.from_arrays(arrays("ials"), msgspec.convert(configs["ials"], IALSConfig)),
            graph=Neighbours.from_arrays(arrays("graph")),
            co_listens=Neighbours.from_arrays(arrays("co_listens")),
            rules=SequenceRules.from_arrays(
                msgspec.convert(configs["rules"], SequenceRulesConfig), arrays("rules")
            ),
            session_knn=SessionKNN.from_arrays(
                msgspec.convert(configs["session_knn"], SessionKNNConfig), arrays("session_knn")
            ),
            transitions=msgspec.convert(configs["transitions"], TransitionsConfig),
            popularity=Popularity.from_arrays(arrays("popularity")),
            popular=Popular.from_arrays(arrays("popular")),
            content=Content.from_arrays(bundle.arrays("models/content", own=True)),
        )
