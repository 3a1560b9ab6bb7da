"""A small line figure as SVG: panels of log-log curves, readable on light and dark pages alike."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

__all__ = ["Curve", "Panel", "draw"]

_WIDTH, _HEIGHT, _LEFT, _TOP, _BOTTOM, _GAP = 300, 220, 52, 34, 46, 34
_COLOURS: Final = ("#d9480f", "#1971c2", "#2f9e44", "#9c36b5")
_DASHES: Final = ("", "", "5 3", "2 3")
_LOWEST: Final = 1e-3
"""Values below are not drawn."""


class Curve(NamedTuple):
    """A named line: x and y of equal length, drawn where both are positive."""

    name: str
    x: npt.NDArray[Any]
    y: npt.NDArray[Any]


class Panel(NamedTuple):
    """One plot with its title and axes' names."""

    title: str
    x: str
    y: str
    curves: Sequence[Curve]


def draw(panels: Sequence[Panel]) -> str:
    """The panels side by side as an SVG document; the curves of all panels share one legend."""
    width = len(panels) * (_WIDTH + _LEFT + _GAP)
    height = _HEIGHT + _TOP + _BOTTOM + 28
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="12">',
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
    ]
    for number, panel in enumerate(panels):
        parts += _panel(panel, _LEFT + number * (_WIDTH + _LEFT + _GAP))
    for number, curve in enumerate(panels[0].curves):
        x, y = _LEFT + number * 230, height - 10
        parts.append(
            f'<path d="M{x} {y - 4}h28" {_pen(number)}/><text x="{x + 34}" y="{y}">{escape(curve.name)}</text>'
        )
    return "\n".join([*parts, "</svg>", ""])


def _panel(panel: Panel, left: int) -> list[str]:
    xs = [_log(c.x[_drawn(c)]) for c in panel.curves]
    ys = [_log(c.y[_drawn(c)]) for c in panel.curves]
    x0, x1 = min(float(x.min()) for x in xs), max(float(x.max()) for x in xs)
    y0, y1 = min(float(y.min()) for y in ys), max(float(y.max()) for y in ys)
    bottom = _TOP + _HEIGHT

    def across(v: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        return left + (v - x0) / max(x1 - x0, 1e-9) * _WIDTH

    def up(v: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        return bottom - (v - y0) / max(y1 - y0, 1e-9) * _HEIGHT

    out = [
        f'<text x="{left}" y="{_TOP - 12}" font-weight="bold">{escape(panel.title)}</text>',
        f'<text x="{left + _WIDTH / 2}" y="{bottom + 34}" text-anchor="middle" fill="#495057">{escape(panel.x)}</text>',
        f'<text transform="translate({left - 40} {_TOP + _HEIGHT / 2}) rotate(-90)" text-anchor="middle" '
        f'fill="#495057">{escape(panel.y)}</text>',
        f'<path d="M{left} {_TOP}V{bottom}H{left + _WIDTH}" fill="none" stroke="#868e96"/>',
    ]
    for power in range(math.ceil(x0), math.floor(x1) + 1):
        x = float(across(np.array(float(power))))
        out.append(f'<path d="M{x:.1f} {_TOP}V{bottom}" stroke="#e9ecef"/>')
        out.append(
            f'<text x="{x:.1f}" y="{bottom + 16}" text-anchor="middle" fill="#495057">{10.0**power:g}</text>'
        )
    for power in range(math.ceil(y0), math.floor(y1) + 1):
        y = float(up(np.array(float(power))))
        out.append(f'<path d="M{left} {y:.1f}h{_WIDTH}" stroke="#e9ecef"/>')
        out.append(
            f'<text x="{left - 6}" y="{y + 4:.1f}" text-anchor="end" fill="#495057">{10.0**power:g}</text>'
        )
    for number, (x_log, y_log) in enumerate(zip(xs, ys, strict=True)):
        points = " ".join(f"{x:.1f},{y:.1f}" for x, y in zip(across(x_log), up(y_log), strict=True))
        out.append(f'<polyline points="{points}" {_pen(number)}/>')
    return out


def _drawn(curve: Curve) -> npt.NDArray[np.bool_]:
    drawn: npt.NDArray[np.bool_] = (np.asarray(curve.x) > 0) & (np.asarray(curve.y) >= _LOWEST)
    return drawn


def _log(values: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    return np.log10(values.astype(np.float64))


def _pen(number: int) -> str:
    dash = _DASHES[number % len(_DASHES)]
    extra = f' stroke-dasharray="{dash}"' if dash else ""
    return f'fill="none" stroke="{_COLOURS[number % len(_COLOURS)]}" stroke-width="2"{extra}'
