"""Words about what libraries say, and silence where they talk without being asked."""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING

from koda.errors import KodaError, ModelError, PrerequisiteError

if TYPE_CHECKING:
    from koda.models.fingerprint import ResolvedModel

_MAX_LINE_LENGTH = 200  # characters of a line that names tensors


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silence open_clip's root-logger chatter; what matters is raised as an error of ours."""
    logger = logging.getLogger()
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


@contextlib.contextmanager
def fetching(what: str, remedy: str) -> Iterator[None]:
    """Say of whatever goes wrong within that something cannot be fetched.

    Raises:
        ModelError: any error.
    """
    try:
        yield
    except Exception as error:
        raise ModelError(f"{what} cannot be fetched: {first_line(error)}", remedy) from error


@contextlib.contextmanager
def loading(resolved: ResolvedModel, remedy: str) -> Iterator[None]:
    """Be quiet while weights load, and say of whatever goes wrong that they do not.

    Raises:
        ModelError: any error that is not one of ours already.
    """
    try:
        with quiet():
            yield
    except KodaError:
        raise
    except Exception as error:
        raise ModelError(
            f"{resolved.label}: the weights {resolved.checkpoint} do not load: {first_line(error)}", remedy
        ) from error


@contextlib.contextmanager
def needing(package: str, what: str) -> Iterator[None]:
    """Say of a failed import within which package brings what is missing.

    Raises:
        PrerequisiteError: an import that fails.
    """
    try:
        yield
    except ImportError as error:
        raise PrerequisiteError(
            f"{what} needs a package that is not installed: {first_line(error)}", f"pip install '{package}'"
        ) from error


def first_line(error: BaseException) -> str:
    """Return the first line of an error that says something, with one full stop."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    text = lines[0]
    if text.endswith(":") and len(lines) > 1:  # torch puts what it found on the next one
        text = f"{text} {lines[1].strip()[:_MAX_LINE_LENGTH]}"
    return text.rstrip(".") + "."
