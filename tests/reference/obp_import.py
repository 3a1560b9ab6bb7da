"""Open Bandit Pipeline without torch: obp imports it for neural policies, which nothing here uses; it is several gigabytes."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any


class _Nothing(type):
    """A class whose every attribute is such a class."""

    def __getattr__(cls, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return _Nothing(name, (), {})


class _Absent(ModuleType):
    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return _Nothing(name, (), {})


for _name in ("torch", "torch.nn", "torch.nn.functional", "torch.optim"):
    sys.modules.setdefault(_name, _Absent(_name))
