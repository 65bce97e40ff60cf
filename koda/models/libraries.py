"""Versions of the libraries that a model's embeddings depend on."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Iterable, Mapping
from functools import cache
from importlib.metadata import PackageNotFoundError, packages_distributions, version

_DISTRIBUTIONS = {"open_clip": "open_clip_torch", "PIL": "pillow"}
_TO_MINOR = ("torch", "torchvision")  # whose patch releases change no embeddings


def versions_of(*packages: str) -> dict[str, str]:
    """Return package -> version of those that are installed, without what a build adds to it.

    >>> sorted(versions_of("torch", "no_such_package"))
    ['torch']
    """
    found = {}
    for package in packages:
        name = _DISTRIBUTIONS.get(package, package)
        release = _release(package, name).partition("+")[0]
        if not release:
            continue
        found[name] = ".".join(release.split(".")[:2]) if name in _TO_MINOR else release
    return found


def _release(package: str, distribution: str) -> str:
    """Return the version of a package, by itself where another distribution brings it, as pillow-simd does; or ""."""
    try:
        return version(distribution)
    except PackageNotFoundError:
        if importlib.util.find_spec(package) is None:
            return ""
        return str(getattr(importlib.import_module(package), "__version__", ""))


def versions_imported(names: Iterable[str]) -> dict[str, str]:
    """Return the versions of the packages of modules that code imports; the standard library has none."""
    known = _distributions()
    tops = {name.partition(".")[0] for name in names}
    return versions_of(*sorted({distribution for top in tops for distribution in known.get(top, [])}))


@cache
def _distributions() -> Mapping[str, list[str]]:
    """Return the name of a module -> the packages that bring it; reading all that is installed takes a while."""
    return packages_distributions()
