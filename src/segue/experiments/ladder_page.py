"""What the ladder says of a challenger, as one HTML page that opens without a network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined

import segue
from segue.experiments.ladder import Advice, Prediction, Record, Silent
from segue.experiments.report import MINUS, Axis, Chart, Mark

__all__ = ["render"]

_TONES = {"better": "good", "worse": "bad", "unclear": ""}


def render(
    title: str,
    predictions: Sequence[Prediction],
    silent: Sequence[Silent],
    records: Mapping[str, Record],
    advice: Advice,
) -> str:
    """The page."""
    environment = Environment(
        loader=ChoiceLoader([PackageLoader("segue.experiments"), PackageLoader("segue")]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
    )
    return environment.get_template("evidence.html").render(
        title=title,
        chart=_chart(predictions),
        predictions=predictions,
        silent=silent,
        records=records,
        advice=advice,
        version=segue.__version__,
    )


def _chart(predictions: Sequence[Prediction]) -> Chart | None:
    if not predictions:
        return None
    axis = Axis.over([edge for one in predictions for edge in (*one.ci95, one.relative)], percent=True)
    marks = tuple(
        Mark(
            one.rung,
            one.metric,
            axis.at(one.relative),
            axis.at(one.ci95[0]),
            axis.at(one.ci95[1]),
            _signed(one.relative),
            f"{_signed(one.ci95[0])} to {_signed(one.ci95[1])}",
            _TONES[one.direction],
        )
        for one in predictions
    )
    return Chart(axis, axis.at(0.0), marks, None)


def _signed(share: float) -> str:
    return f"{share:+.1%}".replace("-", MINUS)
