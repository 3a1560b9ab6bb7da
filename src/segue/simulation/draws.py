"""Random draws inside kernels: one SplitMix64 stream per listener.

Steele, Lea and Flood 2014, "Fast splittable pseudorandom number generators". Each listener owns a 64-bit state,
so that one listener's draws never shift another's.
"""

# mypy: disable-error-code="untyped-decorator"
# Why: numba's decorators carry no types.
from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from numba import njit

__all__ = ["below", "exponential", "gumbel", "normal", "seeds", "uniform"]

_STEP = np.uint64(0x9E3779B97F4A7C15)
_MIX1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX2 = np.uint64(0x94D049BB133111EB)
_30, _27, _31, _11 = np.uint64(30), np.uint64(27), np.uint64(31), np.uint64(11)
_UNIT = 1.0 / 9007199254740992.0


@njit(cache=True, nogil=True)
def uniform(rng: npt.NDArray[np.uint64], who: int) -> float:
    """A number in [0, 1) from the stream of listener `who`."""
    z = rng[who] + _STEP
    rng[who] = z
    z = (z ^ (z >> _30)) * _MIX1
    z = (z ^ (z >> _27)) * _MIX2
    z = z ^ (z >> _31)
    return float(z >> _11) * _UNIT


@njit(cache=True, nogil=True)
def below(rng: npt.NDArray[np.uint64], who: int, n: int) -> int:
    """An integer in [0, n)."""
    return int(uniform(rng, who) * n)


@njit(cache=True, nogil=True)
def exponential(rng: npt.NDArray[np.uint64], who: int) -> float:
    """An exponential draw of mean 1."""
    return -math.log(1.0 - uniform(rng, who))


@njit(cache=True, nogil=True)
def normal(rng: npt.NDArray[np.uint64], who: int) -> float:
    """A standard normal draw (Box and Muller 1958)."""
    radius = math.sqrt(-2.0 * math.log(1.0 - uniform(rng, who)))
    return radius * math.cos(6.283185307179586 * uniform(rng, who))


@njit(cache=True, nogil=True)
def gumbel(rng: npt.NDArray[np.uint64], who: int) -> float:
    """A standard Gumbel draw: the largest of utilities with such noise is a softmax choice."""
    return -math.log(1e-300 - math.log(1.0 - uniform(rng, who)))


def seeds(seed: int, stream: int, n: int) -> npt.NDArray[np.uint64]:
    """uint64[n] states to start `n` streams from."""
    return np.random.default_rng([seed, stream]).integers(0, 2**64, n, np.uint64)
