"""Titles, names, descriptions and tags, drawn from the word lists. Names of artists are unique-ish, titles are not."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from segue.simulation.words import (
    FIRST_NAMES,
    FOREIGN_DESCRIPTIONS,
    FOREIGN_TITLES,
    GENRES,
    INSTRUMENTS,
    LAST_NAMES,
    MOODS,
    NOUNS,
    OCCASIONS,
    PLACES,
)

__all__ = ["artist_names", "track_texts"]

_FOREIGN: Final = 0.06
_TITLES: Final = (
    lambda m, a, b, p: f"{m} {a}".title(),
    lambda m, a, b, p: f"{a} {b}".title(),
    lambda m, a, b, p: f"The {a.title()}",
    lambda m, a, b, p: f"{a} in {p}".capitalize() if p[0].islower() else f"{a.capitalize()} in {p}",
    lambda m, a, b, p: a.title(),
    lambda m, a, b, p: f"{m.capitalize()} {p}",
    lambda m, a, b, p: f"{a.title()} of {b.title()}",
    lambda m, a, b, p: f"No {m} {a}".title(),
    lambda m, a, b, p: f"{a.title()} & {b.title()}",
)
_DESCRIPTIONS: Final = (
    "A {m} {s} track with {a} and {b}, for {o}.",
    "{s}, {m}. {A} first, then {b}. Made in {p}.",
    "Music for {o}: {m}, slow to start, {a} all the way.",
    "Recorded in {p} with {a}, {b} and one microphone.",
    "{M} {s} from {p}. Good for {o}.",
    "{A} and {b}. That is all.",
)


def artist_names(count: int, rng: np.random.Generator) -> list[str]:
    """`count` names of people and bands."""
    kind = rng.integers(0, 5, count)
    first, last = rng.integers(0, len(FIRST_NAMES), count), rng.integers(0, len(LAST_NAMES), count)
    noun, other = rng.integers(0, len(NOUNS), count), rng.integers(0, len(NOUNS), count)
    mood, word = rng.integers(0, len(MOODS), count), rng.integers(1, 5, count)
    names: list[str] = []
    for k, f, la, n, o, m, w in zip(kind, first, last, noun, other, mood, word, strict=True):
        if k == 0:
            names.append(f"{FIRST_NAMES[f]} {LAST_NAMES[la]}")
        elif k == 1:
            names.append(f"{MOODS[m][w]} {NOUNS[n]}s".title())
        elif k == 2:
            names.append(f"{FIRST_NAMES[f]} & the {NOUNS[n].title()} {NOUNS[o].title()}s")
        elif k == 3:
            names.append(f"{NOUNS[n]} {NOUNS[o]}".title())
        else:
            names.append(f"{LAST_NAMES[la]} {NOUNS[n].title()}")
    return names


def track_texts(
    genre: npt.NDArray[np.int32],
    subgenre: npt.NDArray[np.int32],
    mood: npt.NDArray[np.uint8],
    rng: np.random.Generator,
) -> tuple[list[str], list[str | None], list[list[str]]]:
    """Title, description (a third have none) and tags of each track.

    `genre` indexes GENRES, `subgenre` its sub-genres, `mood` MOODS; one entry per track.
    """
    n = len(genre)
    names = list(GENRES)
    word, noun, other = rng.integers(1, 5, n), rng.integers(0, len(NOUNS), n), rng.integers(0, len(NOUNS), n)
    place, occasion = rng.integers(0, len(PLACES), n), rng.integers(0, len(OCCASIONS), n)
    one, two = rng.integers(0, len(INSTRUMENTS), n), rng.integers(0, len(INSTRUMENTS), n)
    form, prose = rng.integers(0, len(_TITLES), n), rng.integers(0, len(_DESCRIPTIONS) * 3 // 2, n)
    foreign, phrase = rng.random(n) < _FOREIGN, rng.integers(0, 1_000, n)
    titles: list[str] = []
    descriptions: list[str | None] = []
    tags: list[list[str]] = []
    for i in range(n):
        feeling, sub, where = MOODS[mood[i]], GENRES[names[genre[i]]][subgenre[i]], PLACES[place[i]]
        a, b = INSTRUMENTS[one[i]], INSTRUMENTS[two[i]]
        if foreign[i]:
            titles.append(FOREIGN_TITLES[phrase[i] % len(FOREIGN_TITLES)])
            text = FOREIGN_DESCRIPTIONS[phrase[i] % len(FOREIGN_DESCRIPTIONS)]
            descriptions.append(text.format(a=a, b=b, p=where))
        else:
            titles.append(_TITLES[form[i]](feeling[word[i]], NOUNS[noun[i]], NOUNS[other[i]], where))
            descriptions.append(
                _DESCRIPTIONS[prose[i]].format(
                    m=feeling[0], M=feeling[word[i]].capitalize(), s=sub, a=a, A=a.capitalize(), b=b, p=where,
                    o=OCCASIONS[occasion[i]],
                )
                if prose[i] < len(_DESCRIPTIONS)
                else None
            )  # fmt: skip
        tags.append([sub, feeling[0], a] if phrase[i] % 2 else [sub, feeling[0]])
    return titles, descriptions, tags
