"""Prefect's settings changed for a while, without reading their files and the environment again, as Prefect does."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from pydantic import BaseModel

    M = TypeVar("M", bound=BaseModel)

#: a server that does not answer at once is asked no more
ASK_ONCE = {"client.max_retries": 0}
_of_this_process: ContextVar[str] = ContextVar("_of_this_process", default="")


def url_that_is_set() -> str:
    """Return where the Prefect server is that the user has set; "" where a run has one of its own."""
    from prefect.settings import PREFECT_API_URL

    url = PREFECT_API_URL.value() or ""
    return "" if url == _of_this_process.get() else url


@contextmanager
def own_server_at(url: str, changes: Mapping[str, Any]) -> Iterator[None]:
    """Have Prefect use a server of this process in this context.

    Args:
        url: where it is.
        changes: settings, as for :func:`changed_settings`.
    """
    token = _of_this_process.set(url)
    try:
        with changed_settings({"api.url": url, **changes}):
            yield
    finally:
        _of_this_process.reset(token)


@contextmanager
def changed_settings(changes: Mapping[str, Any]) -> Iterator[None]:
    """Change settings of Prefect in this context; ten times as quick as Prefect's temporary_settings.

    Args:
        changes: dotted name, as "client.max_retries" -> a value of the setting's type, which is not checked.
    """
    from prefect.context import SettingsContext, get_settings_context

    context = get_settings_context()
    settings = context.settings
    for name, value in changes.items():
        settings = _with(settings, name.split("."), value)
    with SettingsContext(profile=context.profile, settings=settings):
        yield


def _with(model: M, path: list[str], value: Any) -> M:
    first, *rest = path
    if first not in type(model).model_fields:
        raise KeyError(f"{type(model).__name__} has no setting {first}")
    return model.model_copy(update={first: _with(getattr(model, first), rest, value) if rest else value})
