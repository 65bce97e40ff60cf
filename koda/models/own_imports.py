"""Importing the code of a team's own model: as it is on disk now, in every call of one process."""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import importlib.util
import os
import sys
import sysconfig
import threading
from collections.abc import Iterable, Iterator, Sequence
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType

from koda.models.own_reads import watch_reads
from koda.storage import digest_once

_HOUSE = os.path.realpath(Path(__file__).parents[2])
_NOT_OWN = tuple(
    f"{os.path.realpath(place)}{os.sep}"
    for place in (
        *(sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")),
        *(f"{_HOUSE}{os.sep}{package}" for package in ("koda", "tasks", "flows")),
    )
)
_PACKAGED = ("site-packages", "dist-packages")
_imported: dict[str, str] = {}  # the file of each module of someone's own -> the digest of what was imported of it
_read: dict[str, set[str]] = {}  # the file of each such module -> the files that it read when it was imported
_lock = threading.RLock()  # what follows changes the search path and the modules of the whole process


class _Loader(SourceFileLoader):
    """Runs a file as it is: the cache of bytecode takes two versions of one second and size for the same."""

    def get_code(self, fullname: str) -> CodeType:
        data = self.get_data(self.path)
        _imported[self.path] = hashlib.sha256(data).hexdigest()
        code: CodeType = self.source_to_code(data, self.path)
        return code

    def exec_module(self, module: ModuleType) -> None:
        with watch_reads() as found:
            super().exec_module(module)
        _read[self.path] = found


class _Finder:
    """Finds modules as Python does, and has those of someone's own run by the loader above.

    Also where a library has put a loader of its own into Python's search (beartype's, which comes with Prefect).
    """

    @staticmethod
    def find_spec(name: str, path: Sequence[str] | None = None, target: ModuleType | None = None) -> ModuleSpec | None:
        spec = PathFinder.find_spec(name, path, target)
        if (
            spec is None
            or not isinstance(spec.loader, SourceFileLoader)
            or not spec.origin
            or not is_own(Path(spec.origin))
        ):
            return None
        spec.loader = _Loader(name, spec.origin)
        return spec


def import_file(name: str, path: Path) -> ModuleType:
    """Run a file as a module of a name; to be called within :func:`fresh_imports`."""
    loader = _Loader(name, str(path))
    spec = importlib.util.spec_from_file_location(name, path, loader=loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        loader.exec_module(module)
    except BaseException:
        sys.modules.pop(name, None)
        raise
    return module


@contextlib.contextmanager
def fresh_imports(file: Path | None) -> Iterator[set[str]]:
    """Import and run a model's code within, with the folder of its file first in the search, as for a program.

    The folder is taken as it is written, and then as links lead. What an earlier call imported and has changed since
    is forgotten before, and so are modules of another folder under the name of a file beside this one: two models may
    each have their own net.py. What is given collects the files that the code reads, but for those of its imports.
    """
    with _lock:
        folders = []
        if file is not None:
            folders = list(dict.fromkeys([str(file.parent), str(file.resolve().parent)]))
        _forget_changed()
        _forget_namesakes(folders)
        finder = _Finder()
        sys.path[:0] = folders
        sys.meta_path.insert(0, finder)
        importlib.invalidate_caches()
        try:
            with watch_reads() as found:
                yield found
        finally:
            sys.meta_path.remove(finder)
            for folder in folders:
                with contextlib.suppress(ValueError):  # the code may have taken it out itself
                    sys.path.remove(folder)


def digest_imported(path: Path) -> str:
    """Return the digest of a file as it was imported; one that was imported elsewhere, or not yet, as it is now."""
    with _lock:
        return _imported.setdefault(str(path), digest_once(path))


def read_at_import(path: Path) -> set[str]:
    """Return the files that a file read when it was imported, and note what is in them, so that a change is seen."""
    with _lock:
        found = _read.get(str(path), set())
        for name in found:
            with contextlib.suppress(OSError):
                _imported.setdefault(name, digest_once(Path(name)))
        return found


def file_of(module: ModuleType | None) -> Path | None:
    """Return the file of a module of someone's own; None for any other."""
    place = getattr(module, "__file__", None)
    return Path(place) if isinstance(place, str) and place.endswith(".py") and is_own(Path(place)) else None


def is_own(path: Path) -> bool:
    """Tell whether a file is someone's own: neither Python's, nor of an installed package, nor koda's."""
    real = os.path.realpath(path)
    return not any(part in _PACKAGED for part in Path(real).parts) and not real.startswith(_NOT_OWN)


def _forget_changed() -> None:
    """Forget the modules that were imported here, if the file of one has changed: the others hold its old code."""
    if all(map(_is_still, _imported, _imported.values())):
        return
    for name, module in list(sys.modules.items()):
        place = file_of(module)
        if name != "__main__" and place is not None and str(place) in _imported:
            del sys.modules[name]
    _imported.clear()
    _read.clear()


def _is_still(place: str, digest: str) -> bool:
    try:
        return digest_once(Path(place)) == digest
    except OSError:
        return False


def _forget_namesakes(folders: Iterable[str]) -> None:
    beside: dict[str, str] = {}  # name of a module -> what its files begin with
    for folder in folders:
        with contextlib.suppress(OSError):
            for path in sorted(Path(folder).iterdir()):
                if path.suffix == ".py":
                    beside.setdefault(path.stem, os.path.realpath(path))
                elif (path / "__init__.py").is_file():
                    beside.setdefault(path.name, f"{os.path.realpath(path)}{os.sep}")
    beside.pop("__main__", None)
    for name, module in list(sys.modules.items()):
        start = beside.get(name.partition(".")[0])
        place = None if start is None else file_of(module)
        if start is not None and place is not None and not os.path.realpath(place).startswith(start):
            del sys.modules[name]
