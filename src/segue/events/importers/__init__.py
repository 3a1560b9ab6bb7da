"""Importers: other people's files into our tables. To add one, write a module like `music30.py` and name it here."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from segue.contracts.errors import InvalidInput, NotFound
from segue.events.importers.base import Importer, ImportProgress, ImportReport, OnLanded, import_path
from segue.events.importers.lastfm2k import LastFm2k
from segue.events.importers.listenbrainz import ListenBrainz
from segue.events.importers.music30 import Music30
from segue.events.importers.readers import did_you_mean
from segue.events.importers.table import TableImporter

__all__ = [
    "IMPORTERS",
    "ImportProgress",
    "ImportReport",
    "Importer",
    "OnLanded",
    "choose_importer",
    "import_path",
]

IMPORTERS: Final[dict[str, Importer | type[TableImporter]]] = {
    Music30.name: Music30(),
    LastFm2k.name: LastFm2k(),
    ListenBrainz.name: ListenBrainz(),
    TableImporter.name: TableImporter,
}
"""By the name that `segue import NAME` takes. A class stands for an importer that needs a mapping file."""


def choose_importer(name: str, mapping: Path | None = None) -> Importer:
    """The importer of that name.

    Raises NotFound for an unknown name, InvalidInput if a mapping file is missing or of no use.
    """
    found = IMPORTERS.get(name)
    if found is None:
        raise NotFound(f"no importer {name!r}; {did_you_mean(name, list(IMPORTERS))}", field="importer")
    if isinstance(found, type):
        if mapping is None:
            raise InvalidInput(
                f"import {name} needs --mapping FILE, which says what its columns are", field="mapping"
            )
        return found.load(mapping)
    if mapping is not None:
        raise InvalidInput(f"import {name} takes no mapping: it knows its columns", field="mapping")
    return found
