"""The experiments of a home: `experiments/NAME.toml`, as reviewed, and beside it `NAME.stopped` once it was stopped.

A stopped experiment stays stopped, whoever puts its file there again: what its units got would change twice. While one runs, a
new file of it may only let it grow; what would move units, or change what they get, needs a new name. Files appear whole, and
who looks at the directory's `stamp` sees that something changed.
"""

from __future__ import annotations

import os
import re
import tempfile
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any, Final, Literal

import msgspec
import tomli_w

from segue.bundle import BundleStore
from segue.bundle.folder import turn
from segue.contracts.errors import BundleCorrupt, Conflict, InvalidInput, NotFound, SegueError, Unavailable
from segue.contracts.experiments import NAME, Experiment
from segue.experiments.definition import bundles_of, check, from_tree, parse, read_experiment, read_text
from segue.experiments.together import Together
from segue.settings.tree import Settings

MOST: Final = 1_000
"""Experiments of a home."""
_FILE, _STOPPED = ".toml", ".stopped"
_NAME: Final = re.compile(NAME)
_SETTLED: Final = (
    "unit",
    "slot_minutes",
    "layer",
    "offset",
    "salt",
    "targeting",
    "surfaces",
    "starts",
    "variants",
)
"""What may not change while it runs."""
Status = Literal["scheduled", "running", "ended", "stopped"]
Stamp = tuple[tuple[str, int, int, int], ...]


@dataclass(frozen=True)
class Kept:
    """An experiment of a home; `stopped_at` in UTC microseconds, if somebody stopped it."""

    experiment: Experiment
    stopped_at: int | None = None

    def status(self, today: date) -> Status:
        """How it is on a UTC day."""
        if self.stopped_at is not None:
            return "stopped"
        if today < self.experiment.starts:
            return "scheduled"
        return "running" if today < self.experiment.ends else "ended"


class ExperimentStore:
    """The experiments below a directory. Processes may share it; writers take turns."""

    def __init__(self, root: Path, settings: Settings, bundles: BundleStore) -> None:
        self.root = root
        self._settings = settings
        self._bundles = bundles
        self._read: dict[str, tuple[str, Experiment]] = {}
        """The text of each file as last read, and what it says."""
        self._faults: dict[str, tuple[Experiment, str | None]] = {}
        """What is wrong with each alone, as last checked."""

    def all(self) -> tuple[tuple[Kept, ...], dict[str, str]]:
        """Those whose file can be read, by name, and what is wrong with the others, by file. Of more than MOST files, as may be
        there that were not `put`, the first by name are read.
        """
        found, unreadable = [], {}
        paths = sorted(self.root.glob(f"*{_FILE}"))
        if len(paths) > MOST:
            unreadable[str(self.root)] = (
                f"{self.root}: has {len(paths):,} files, of which the first {MOST:,} by name are read; delete experiments that "
                "are over"
            )
        for gone in set(self._read) - {path.stem for path in paths[:MOST]}:
            self._read.pop(gone, None)
            self._faults.pop(gone, None)
        for path in paths[:MOST]:
            try:
                found.append(Kept(self._experiment(path), self._stopped_at(path.stem)))
            except SegueError as error:
                unreadable[path.name] = error.message
        return tuple(found), unreadable

    def live(self, today: date) -> tuple[tuple[Experiment, ...], dict[str, str]]:
        """Those that are not over and may run beside one another, and what is wrong with the others, by name or file.

        Of two that clash, as files may that were not `put`, the one that starts first runs.
        """
        found, trouble = self.all()
        sound: list[Experiment] = []
        together = Together()
        for kept in sorted(found, key=lambda k: (k.experiment.starts, k.experiment.name)):
            if kept.status(today) in ("scheduled", "running"):
                try:
                    self._check(kept.experiment)
                    together.add(kept.experiment)
                    sound.append(kept.experiment)
                except SegueError as error:
                    trouble[kept.experiment.name] = error.message
        return tuple(sound), trouble

    def bundles(self, today: date) -> set[str]:
        """Versions of bundles that experiments answer from, or will."""
        live = [k.experiment for k in self.all()[0] if k.status(today) in ("scheduled", "running")]
        return {version for one in live for version in bundles_of(one)}

    def get(self, name: str) -> Kept:
        """The experiment of that name. Raises NotFound, InvalidInput."""
        path = self._path(name)
        if not _NAME.fullmatch(name) or not path.is_file():
            known = ", ".join(sorted(path.stem for path in self.root.glob(f"*{_FILE}"))) or "none"
            raise NotFound(f"there is no experiment {name[:60]!r}; there are: {known}", field="name")
        return Kept(read_experiment(path), self._stopped_at(name))

    def put(self, text: str, origin: str, today: date) -> Kept:
        """Keep an experiment's TOML text, as it is, in place of any file of its name.

        Raises InvalidInput for what is wrong with it alone, or together with those there; Conflict for a change that may not be
        made to one that runs or is over.
        """
        return self._put(parse(text, origin), text, today)

    def put_tree(self, tree: Any, name: str, today: date) -> Kept:
        """The same for a decoded JSON document, which may leave out the name."""
        given = {"name": name, **tree} if isinstance(tree, dict) else tree
        experiment = from_tree(given, "body")
        if experiment.name != name:
            raise InvalidInput(
                f"name: {experiment.name!r} is put under the name {name!r}", field="name", limit=name
            )
        return self._put(
            experiment, tomli_w.dumps(msgspec.to_builtins(experiment, builtin_types=(date,))), today
        )

    def check(self, experiments: list[Experiment]) -> None:
        """Raise InvalidInput for what would keep experiments from being put there, all of them."""
        names = {experiment.name for experiment in experiments}
        if len(names) < len(experiments):
            raise InvalidInput("two files have an experiment of one name", field="name")
        for experiment in experiments:
            check(experiment, self._settings)
            for name, variant in experiment.variants.items():
                if variant.bundle is not None:
                    self._known(experiment, name, variant.bundle)
        kept, _ = self.all()
        others = [k.experiment for k in kept if k.experiment.name not in names and k.stopped_at is None]
        together = Together(others)
        for experiment in experiments:
            together.add(experiment)

    def stop(self, name: str, now: int) -> Kept:
        """Stop it for good: from now on its units are treated as everybody. To stop it twice is no error."""
        kept = self.get(name)
        if kept.stopped_at is None:
            with turn(self.root):
                self._write(f"{name}{_STOPPED}", f"{now}\n")
        return self.get(name)

    def delete(self, name: str) -> Kept:
        """Take it out. What was logged of it stays in the log. Raises NotFound."""
        kept = self.get(name)  # of no other name than an experiment's is there a file to take out
        with turn(self.root):
            self._path(name).unlink(missing_ok=True)
            (self.root / f"{name}{_STOPPED}").unlink(missing_ok=True)
        return kept

    def stamp(self) -> Stamp:
        """What changes whenever the directory does. Costs a look at each file's entry."""
        try:
            with os.scandir(self.root) as entries:
                files = [(e.name, e.stat()) for e in entries if not e.name.startswith(".")]
        except FileNotFoundError:
            return ()
        return tuple(sorted((name, s.st_mtime_ns, s.st_size, s.st_ino) for name, s in files))

    def _put(self, experiment: Experiment, text: str, today: date) -> Kept:
        name = experiment.name
        self.root.mkdir(parents=True, exist_ok=True)
        with turn(self.root):
            self.check([experiment])
            if self._path(name).is_file():
                _settled(self.get(name), experiment, today)
            elif len(list(self.root.glob(f"*{_FILE}"))) >= MOST:
                raise Conflict(
                    f"there are {MOST} experiments already; delete those that are over", field="name"
                )
            self._write(f"{name}{_FILE}", text)
        return self.get(name)

    def _experiment(self, path: Path) -> Experiment:
        """What a file says: read again and again, and parsed again where it changed. Raises InvalidInput."""
        text = read_text(path)
        before = self._read.get(path.stem)
        if before is not None and before[0] == text:
            return before[1]
        found = parse(text, str(path))
        if found.name != path.stem:
            raise InvalidInput(f"{path}: is called {found.name!r} inside; its file must be too", field="name")
        self._read[path.stem] = (text, found)
        return found

    def _check(self, experiment: Experiment) -> None:
        """Raise InvalidInput for what is wrong with it alone, found out once."""
        before = self._faults.get(experiment.name)
        if before is None or before[0] is not experiment:
            fault = None
            try:
                check(experiment, self._settings)
            except SegueError as error:
                fault = error.message
            before = self._faults[experiment.name] = (experiment, fault)
        if before[1] is not None:
            raise InvalidInput(before[1], field=experiment.name)

    def _known(self, experiment: Experiment, variant: str, bundle: str) -> None:
        try:
            self._bundles.open(bundle)
        except (BundleCorrupt, NotFound) as error:
            raise InvalidInput(
                f"experiment {experiment.name}: variants.{variant}.bundle: {error.message}", field="bundle"
            ) from error

    def _path(self, name: str) -> Path:
        return self.root / f"{name}{_FILE}"

    def _stopped_at(self, name: str) -> int | None:
        try:
            return int((self.root / f"{name}{_STOPPED}").read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except ValueError:
            return 0  # that it is there is what counts

    def _write(self, name: str, text: str) -> None:
        """Put a file there, whole or not at all, whoever's turn it is. Sweeps what killed processes left."""
        try:
            for left in self.root.glob(".new-*"):
                left.unlink(missing_ok=True)
            handle, temporary = tempfile.mkstemp(prefix=".new-", dir=self.root)
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            Path(temporary).replace(self.root / name)
        except OSError as error:
            raise Unavailable(
                f"{self.root / name}: cannot be written: {error.strerror}; what was there stays", field=name
            ) from error


def _settled(before: Kept, after: Experiment, today: date) -> None:
    """Raise Conflict for a change that would move units, or what they get, while it runs or behind its end."""
    was = before.experiment
    status = before.status(today)
    if was == after or status == "scheduled":
        return
    if status == "stopped":
        raise Conflict(f"experiment {was.name} was stopped; put it under another name", field="name")
    moved = [name for name in _SETTLED if getattr(was, name) != getattr(after, name)]
    if moved:
        raise Conflict(
            f"experiment {was.name} is {status}: {', '.join(moved)} cannot change any more; put it under another name",
            field=moved[0],
        )
    if after.share < was.share:
        raise Conflict(
            f"experiment {was.name} is {status}: its share may grow, not fall from {was.share:g} to {after.share:g}; "
            "stop it instead",
            field="share",
        )
