"""Item factors from Spark MLlib's ALS, for listeners and tracks that outgrow one machine.

MLlib solves (Y'Y + sum c y y' + r n I) x = sum (1 + c) y over the pairs of a row, with c = alpha * weight and n their number.
Ours, divided by the unobserved weight a, is the same with c = weight / a, but aims at c instead of 1 + c, and regularizes by
n + a * columns where MLlib knows n only. So alpha is 1 / a, and r our regularization / a, times what the other part adds on
average: 1 + a * rows * columns / pairs. All rows together are regularized as much; short ones less than in ours, long ones more.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final
from uuid import uuid4

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pyspark.ml.recommendation import ALS
from pyspark.sql import SparkSession

from segue.adapters.engines.on_delta import BATCH, SPILL
from segue.adapters.engines.spark import application, glob_escaped, running
from segue.contracts.errors import InvalidSettings
from segue.contracts.ports import Factorization
from segue.settings.tree import Warehouse

if TYPE_CHECKING:
    import numpy.typing as npt

CHUNK: Final = 1 << 20
"""Pairs of a row group of the file that Spark reads."""
_PAIRS: Final = pa.schema([("row", pa.int32()), ("item", pa.int32()), ("weight", pa.float32())])


class SparkALS:
    """The `Factorizer` port on Spark. Pairs and factors pass through Parquet in `root/.spill`, which all executors must see."""

    def __init__(self, root: Path, settings: Warehouse) -> None:
        self._root = root.absolute()
        self._settings = settings

    def item_factors(
        self,
        indptr: npt.NDArray[np.int64],
        items: npt.NDArray[np.int32],
        weights: npt.NDArray[np.float32],
        n_items: int,
        asked: Factorization,
    ) -> npt.NDArray[np.float32]:
        """As every factorizer. Zeros stand for items without pairs. Raises Unavailable or Overloaded where Spark fails.

        The same seed gives nearly the same factors: Spark adds in the order in which its tasks end.
        """
        if asked.regularization_exponent != 1:
            raise InvalidSettings(
                "Spark's ALS regularizes a row by what is known of it: the exponent must be 1",
                field="ials.regularization_exponent",
                limit="1",
            )
        with self._folder() as folder, running("Spark's ALS", self._settings):
            session = application(self._settings, self._root).newSession()
            _write(folder / "pairs.parquet", indptr, items, weights)
            added = asked.unobserved_weight * (len(indptr) - 1) * n_items / len(items)
            _fit(session, folder, asked, asked.regularization / asked.unobserved_weight * (1 + added))
            return _read(folder / "items", n_items, asked.factors)

    @contextmanager
    def _folder(self) -> Iterator[Path]:
        folder = self._root / SPILL / f"als_{uuid4().hex}"
        folder.mkdir(parents=True)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def _write(
    path: Path,
    indptr: npt.NDArray[np.int64],
    items: npt.NDArray[np.int32],
    weights: npt.NDArray[np.float32],
) -> None:
    with pq.ParquetWriter(path, _PAIRS, compression="zstd") as file:
        for first in range(0, len(items), CHUNK):
            some = slice(first, min(first + CHUNK, len(items)))
            row = np.searchsorted(indptr, np.arange(some.start, some.stop), "right") - 1
            columns = [row.astype(np.int32), items[some], weights[some]]
            file.write_table(pa.table(columns, schema=_PAIRS))


def _fit(session: SparkSession, folder: Path, asked: Factorization, regularization: float) -> None:
    """Reads pairs.parquet of the folder, writes items/."""
    context = session.sparkContext
    context.setCheckpointDir(glob_escaped(folder / "checkpoints"))
    blocks = max(10, context.defaultParallelism)
    als = ALS(
        rank=asked.factors,
        maxIter=asked.epochs,
        implicitPrefs=True,
        alpha=1 / asked.unobserved_weight,
        regParam=regularization,
        userCol="row",
        itemCol="item",
        ratingCol="weight",
        numUserBlocks=blocks,
        numItemBlocks=blocks,
        seed=asked.seed,
    )
    pairs = session.read.parquet(glob_escaped(folder / "pairs.parquet")).repartition(blocks)
    als.fit(pairs).itemFactors.write.parquet(str(folder / "items"))


def _read(folder: Path, n_items: int, factors: int) -> npt.NDArray[np.float32]:
    found = np.zeros((n_items, factors), np.float32)
    for path in folder.glob("part-*.parquet"):
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(BATCH):
                rows = batch["features"].flatten().to_numpy().reshape(-1, factors)
                found[batch["id"].to_numpy()] = rows
    return found
