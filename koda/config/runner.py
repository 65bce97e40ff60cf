"""Who computes the parts of an audit: this process, or the workers of a cluster."""

from __future__ import annotations

from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from koda.config.paths import absolute_place
from koda.config.strict import Strict

RunnerKind = Literal["threads", "dask", "ray"]
_SCHEMES: dict[str, tuple[str, ...]] = {"dask": ("tcp", "tls", "ws", "wss"), "ray": ("ray",)}


class RunnerConfig(Strict):
    """Who computes the parts of an audit. What comes out is the same bytes, whoever does."""

    kind: RunnerKind = Field(
        default="threads", description="threads: this process; dask or ray: the workers of a cluster"
    )
    address: str | None = Field(
        default=None,
        description="of the cluster: tcp://HOST:8786 of a Dask scheduler, ray://HOST:10001 of Ray; default: a cluster "
        "of the run's own on this machine",
    )
    workers: int | None = Field(default=None, ge=1, description="processes of a cluster of the run's own; default: 2")
    storage: str | None = Field(
        default=None,
        min_length=1,
        description="folder, or address of fsspec's such as s3://bucket/folder, where the run and its workers exchange "
        "parts; default: in KODA_HOME, which all machines then have to see under one path",
    )

    @field_validator("address")
    @classmethod
    def _names_a_place(cls, value: str | None) -> str | None:
        if value is not None and place_of(value) is None:
            raise ValueError(f"{value!r} is not the address of a cluster, such as tcp://10.0.0.5:8786 or 10.0.0.5:8786")
        return value

    @model_validator(mode="after")
    def _keys_fit_the_kind(self) -> RunnerConfig:
        if self.kind == "threads":
            if given := [name for name in ("address", "workers", "storage") if getattr(self, name) is not None]:
                raise ValueError(
                    f"{' and '.join(given)} {'is' if len(given) == 1 else 'are'} of a cluster, and kind: threads has "
                    "none; set kind: dask or kind: ray"
                )
            return self
        if self.address is None:
            return self
        if self.workers is not None:
            raise ValueError(
                "workers is the size of a cluster of the run's own; the one at the address has its own workers"
            )
        scheme = urlsplit(self.address).scheme if "://" in self.address else ""
        if scheme and scheme not in _SCHEMES[self.kind]:
            right = next((kind for kind, schemes in _SCHEMES.items() if scheme in schemes), None)
            hint = f"it is one of kind: {right}" if right else f"it begins with {' or '.join(_SCHEMES[self.kind])}"
            raise ValueError(f"{self.address} is no address of kind: {self.kind}; {hint}")
        return self

    @property
    def local_workers(self) -> int:
        """Processes of a cluster of the run's own."""
        return self.workers or 2


def place_of(address: str) -> tuple[str, int] | None:
    """Return host and port of an address; None where it names none.

    >>> place_of("tcp://[::1]:8786")
    ('::1', 8786)
    """
    try:
        parts = urlsplit(address if "://" in address else f"//{address}")
        return (parts.hostname, parts.port) if parts.hostname and parts.port else None
    except ValueError:
        return None


def absolute_runner(runner: RunnerConfig, folder: Path) -> RunnerConfig:
    """Make the folder of the exchange, which is relative to `folder`, absolute."""
    if runner.storage is None:
        return runner
    return runner.model_copy(update={"storage": absolute_place(runner.storage, folder)})
