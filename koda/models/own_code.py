"""The code of a team's own model: what it consists of, file by file, with the digest of each as it was imported."""

from __future__ import annotations

import ast
import contextlib
import os
import sys
import tokenize
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.machinery import PathFinder
from pathlib import Path

from koda.models.own_imports import digest_imported, file_of, is_own, read_at_import
from koda.models.own_reads import digest_reads


@dataclass(frozen=True)
class OwnCode:
    """What a model's code is made of.

    Args:
        digests: name -> digest of each file of the team's own, and of what it read; names are relative to the folder
            of the first.
        imports: names of modules that the files import.
    """

    digests: dict[str, str]
    imports: frozenset[str]


def own_code(modules: Iterable[str], reads: Iterable[str]) -> OwnCode:
    """Follow what modules import, through the files of the team's own: those outside of the installed packages.

    Imports are read from the source, so that those inside of functions count, and found as Python found them when
    the code ran.

    Args:
        modules: names of imported modules, the one that was asked for first; its file counts wherever it lies.
        reads: files that the code read when it ran; those that its imports read are added.
    """
    waiting: list[tuple[Path, str]] = []
    for name in dict.fromkeys(modules):
        place = getattr(sys.modules.get(name), "__file__", None)
        if isinstance(place, str) and (not waiting or is_own(Path(place))):
            waiting.append((Path(place), name))
    first = waiting[0][0]
    seen: dict[str, Path] = {}
    imports: set[str] = set()
    while waiting:
        path, name = waiting.pop(0)
        real = os.path.realpath(path)
        if real in seen or not path.is_file():
            continue
        seen[real] = path
        for imported in _imports(path, name):
            imports.add(imported)
            found = _find(imported, path.parent)
            if found is not None:
                waiting.append((found, imported))
    # the file that was asked for is the same whatever it is called
    names = {path: os.path.relpath(path, first.parent).replace(os.sep, "/") for path in seen.values()}
    digests = {"code" if path == first else f"code/{names[path]}": digest_imported(path) for path in seen.values()}
    opened = set(reads).union(*map(read_at_import, seen.values()))
    digests |= digest_reads(opened, first.parent)
    return OwnCode(dict(sorted(digests.items())), frozenset(imports))


def _imports(path: Path, module: str) -> list[str]:
    """Return the dotted names that a file imports; of `from a import b` both a and a.b, which may be a module."""
    try:
        with tokenize.open(path) as file:
            tree = ast.parse(file.read())
    except (OSError, SyntaxError, ValueError, RecursionError):
        return []  # importing it says what is wrong with it
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    names: list[str] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parts = package.split(".")
                base = ".".join([*parts[: len(parts) - node.level + 1], *([base] if base else [])])
            names += [base, *(f"{base}.{alias.name}" for alias in node.names if alias.name != "*")]
    # a package runs its __init__ before what is in it
    return [".".join(name.split(".")[:n]) for name in names if name for n in range(1, name.count(".") + 2)]


def _find(name: str, beside: Path) -> Path | None:
    """Return the file of a module if it is the team's own: as it was imported, else as the importer would find it."""
    if name in sys.modules:
        return file_of(sys.modules[name])
    top, *rest = name.split(".")
    folders = [str(beside), os.path.realpath(beside), *sys.path]
    with contextlib.suppress(ImportError, ValueError, AttributeError, OSError):
        spec = PathFinder.find_spec(top, folders)
        if spec is None:
            return None
        places = [Path(spec.origin)] if spec.origin and not rest else []
        for folder in spec.submodule_search_locations or () if rest else ():
            inside = Path(folder).joinpath(*rest)
            places += [inside.with_name(f"{inside.name}.py"), inside / "__init__.py"]
        return next((place for place in places if place.suffix == ".py" and place.is_file() and is_own(place)), None)
    return None
