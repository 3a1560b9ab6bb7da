"""A simulated service as of a midnight: all that its further life depends on besides catalogue and config.

It is kept beside the truth, so that a service can live on after its history: in an experiment, in a scenario.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec
import numpy as np

from segue.contracts.errors import InvalidData, NotFound
from segue.simulation.config import SimulationConfig
from segue.simulation.world import F64, MEMORY_ROW, Memory

__all__ = ["Service", "read_config", "read_service", "write_service"]

_CONFIG: Final = "simulation.json"


@dataclass(slots=True)
class Service:
    """What listeners remember (MEMORY_ROW per listener) and how much each track is talked about, float64[tracks]."""

    memory: Memory
    talk: F64

    def copy(self) -> Service:
        """Another, to live another life."""
        return Service(self.memory.copy(), self.talk.copy())


def write_service(folder: Path, config: SimulationConfig, service: Service) -> None:
    """Keep the service as of the end of its history."""
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / "memory.npy", service.memory, allow_pickle=False)
    np.save(folder / "talk.npy", service.talk, allow_pickle=False)
    (folder / _CONFIG).write_bytes(msgspec.json.format(msgspec.json.encode(config)))


def read_config(folder: Path) -> SimulationConfig:
    """The config of the history whose truth is in the folder. Raises NotFound."""
    try:
        return msgspec.json.decode((folder / _CONFIG).read_bytes(), type=SimulationConfig)
    except FileNotFoundError as error:
        raise NotFound(
            f"{folder / _CONFIG} is not there: the home holds no simulated service that was written to its end; "
            "simulate one into an empty home with `segue simulate`",
            field="home",
        ) from error


def read_service(folder: Path) -> Service:
    """The service as of the end of the history. Raises NotFound, or InvalidData if another version wrote it."""
    try:
        memory, talk = (np.load(folder / f"{name}.npy", allow_pickle=False) for name in ("memory", "talk"))
    except FileNotFoundError as error:
        raise NotFound(f"{error.filename} is not there; simulate the service anew", field="home") from error
    if memory.dtype != MEMORY_ROW:
        raise InvalidData(
            f"{folder / 'memory.npy'}: another version of Segue wrote it; simulate the service anew",
            field="memory",
        )
    return Service(memory, talk)
