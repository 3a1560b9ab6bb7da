"""The ranker of a bundle: gradient-boosted trees, one model per objective, over one list of features."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt
from msgspec import Struct, convert

from segue.bundle import Bundle, BundleWriter
from segue.models.trees import TreeScorer

Matrix = npt.NDArray[np.float32]


class RankerSpec(Struct, frozen=True, forbid_unknown_fields=True):
    """Feature names in column order; objectives in model order; how many requests it was trained on."""

    features: tuple[str, ...]
    objectives: tuple[str, ...]
    requests: int


@dataclass(frozen=True)
class Ranker:
    """Scores float32[n, f] rows. `texts` are the LightGBM models the scorer was made of, one per objective; none where it was
    opened from a bundle, which keeps them as files."""

    spec: RankerSpec
    scorer: TreeScorer
    texts: tuple[str, ...] = ()

    @classmethod
    def of(cls, spec: RankerSpec, texts: tuple[str, ...]) -> Self:
        """From LightGBM's own text."""
        return cls(spec, TreeScorer.from_lightgbm(*texts), texts)

    def save(self, writer: BundleWriter, name: str) -> None:
        """Write it into a bundle under `rankers/name`."""
        writer.arrays(f"rankers/{name}", self.scorer.arrays())
        writer.json(f"rankers/{name}/spec", self.spec)
        for objective, text in zip(self.spec.objectives, self.texts, strict=True):
            writer.path(f"rankers/{name}/{objective}.txt").write_text(text, encoding="utf-8")

    @classmethod
    def load(cls, bundle: Bundle, name: str) -> Self:
        """The ranker of a bundle, its trees memory-mapped."""
        spec = convert(bundle.json(f"rankers/{name}/spec"), RankerSpec)
        return cls(spec, TreeScorer.from_arrays(bundle.arrays(f"rankers/{name}")))

    def contributions(self, x: Matrix, most: int = 5) -> list[dict[str, float]]:
        """For each row, the features that moved the first objective most along its paths (Saabas, 2014), in log-odds."""
        values = self.scorer.contributions(np.ascontiguousarray(x))[:, :-1]
        rows = []
        for row in values:
            top = np.argsort(-np.abs(row), kind="stable")[:most]
            rows.append({self.spec.features[i]: round(float(row[i]), 3) for i in top if row[i] != 0})
        return rows
