"""The command `koda init`: an audit file to begin with, which asks for what a report needs."""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flows.cli.destinations import destination
from flows.cli.options import JsonOption, answer, home
from flows.terminal import console, escape, short_path

if TYPE_CHECKING:
    from koda.config.models import ModelSpec

_AUDIT, _CROSSWALK = "audit.yaml", "crosswalk.yaml"
_BASELINE, _CANDIDATE, _DATA = "ViT-B-32@laion2b_s34b_b79k", "local-dir:checkpoints/candidate", "pairs.tsv"
_MODEL_HELP = "A model's name, folder, NAME@WEIGHTS, or embeddings:FOLDER."


def init(
    folder: Annotated[Path, typer.Argument(metavar="[FOLDER]", help="Where; made if need be.")] = Path(),
    data: Annotated[str | None, typer.Option("--data", metavar="PATH", help="The image-caption pairs.")] = None,
    baseline: Annotated[str | None, typer.Option("--baseline", metavar="MODEL", help=_MODEL_HELP)] = None,
    candidate: Annotated[str | None, typer.Option("--candidate", metavar="MODEL", help=_MODEL_HELP)] = None,
    audit: Annotated[str | None, typer.Option("--from", metavar="AUDIT", help="Of a past audit, its settings.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace files that are there.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Write a commented audit.yaml, and a crosswalk.yaml to edit.

    How a folder of embeddings is laid out says `koda compare --help`.
    """

    def work() -> dict[str, Any]:
        from koda.errors import ConfigError

        if audit is not None and (baseline, candidate, data) != (None, None, None):
            raise ConfigError("--from takes models and data from the audit.", "Name no others; edit the file after it.")
        here = folder.absolute()
        with destination("FOLDER", here):
            return write(here)

    def write(here: Path) -> dict[str, Any]:
        from koda.audit.crosswalk import shipped_crosswalk
        from koda.errors import ConfigError
        from koda.storage import write_atomically

        crosswalk = shipped_crosswalk()
        if audit is None:
            text = _begun(baseline, candidate, data, here)
        else:
            text, own = _continued(audit, here)
            crosswalk = own or crosswalk
        paths = {"audit": here / _AUDIT, "crosswalk": here / _CROSSWALK}
        there = " and ".join(str(path) for path in paths.values() if os.path.lexists(path))
        if there and not force:
            raise ConfigError(
                f"There is already {there}; nothing was written.",
                "Give another folder, or --force to replace what is there.",
            )
        write_atomically(paths["crosswalk"], crosswalk.read_bytes())
        write_atomically(paths["audit"], text.encode("utf-8"))
        return {"folder": str(here), "paths": {name: str(path) for name, path in paths.items()}}

    answer(work, as_json, _show)


def _begun(baseline: str | None, candidate: str | None, data: str | None, folder: Path) -> str:
    """Return an audit file of what the command line names, or of examples."""
    from koda.config.starter import starter

    old, new, pairs = _given(baseline, candidate, data, folder)
    return starter(_below_model(old, folder), _below_model(new, folder), _below(pairs, folder), _CROSSWALK)


def _continued(audit: str, folder: Path) -> tuple[str, Path | None]:
    """Return the audit file of a past audit, and the crosswalk of its own, a copy of which the file names.

    Raises:
        ConfigError: no such audit, or settings that this koda does not know.
    """
    from koda.audit.publishing import read_published
    from koda.config.audit import check_config
    from koda.config.starter import continued

    record = read_published(home(), audit)
    config = check_config(record.config, f"the record of {record.id}", folder)
    data = config.data.model_copy(update={"path": _below(config.data.path, folder)})
    models = {role: _below_model(getattr(config, role), folder) for role in ("baseline", "candidate")}
    own = None if config.report.crosswalk is None else Path(config.report.crosswalk)
    if own is None or not own.is_file():
        return continued(config.model_copy(update={"data": data, **models}), record.id, _CROSSWALK), None
    report = config.report.model_copy(update={"crosswalk": _CROSSWALK})
    return continued(config.model_copy(update={"data": data, "report": report, **models}), record.id, _CROSSWALK), own


def _given(
    baseline: str | None, candidate: str | None, data: str | None, folder: Path
) -> tuple[ModelSpec, ModelSpec, str]:
    """Return the models and the place of the data, in absolute paths; examples where they are not given.

    Args:
        baseline, candidate, data: of the command line, whose paths are relative to the working directory.
        folder: of the file, to which the paths of examples are relative.

    Raises:
        ConfigError: an empty text, or a checkpoint file that is not there, or of a model that is not stated.
    """
    from koda.config import AuditConfig, DataConfig
    from koda.config.naming import named_model, with_candidate
    from koda.config.paths import absolute_data
    from koda.errors import ConfigError

    for name, value in (("baseline", baseline), ("data", data)):
        if value is not None and not value.strip():
            raise ConfigError(f"--{name} is given an empty text.", "Give a name or a path, or leave it out.")
    cwd = Path.cwd()
    if baseline is not None and (cwd / Path(baseline)).is_file():
        raise ConfigError(
            f"--baseline {baseline} is a checkpoint file, which says not which model it is of.",
            f"Name the model too: --baseline ViT-B-32@{baseline}",
        )
    old = named_model(baseline or _BASELINE, folder if baseline is None else cwd)
    pairs = absolute_data(DataConfig(path=data or _DATA), folder if data is None else cwd)
    config = AuditConfig(baseline=old, candidate=old, data=pairs)
    if candidate is None:
        return old, named_model(_CANDIDATE, folder), pairs.path
    return old, with_candidate(config, candidate, cwd).candidate, pairs.path


def _below_model(spec: ModelSpec, folder: Path) -> ModelSpec:
    """Return a model with the paths that lie below a folder relative to it."""
    place = _below(spec.place, folder) if spec.kind in ("local-dir", "embeddings") else spec.place
    return spec.model_copy(
        update={
            "name": spec.name.removesuffix(spec.place) + place,
            "pretrained": None if spec.pretrained is None else _below(spec.pretrained, folder),
        }
    )


def _below(path: str, folder: Path) -> str:
    """Return an absolute path as one relative to a folder, if it lies below it; any other text as it is."""
    return str(Path(path).relative_to(folder)) if Path(path).is_relative_to(folder) else path


def _show(written: dict[str, Any]) -> None:
    """Say what was written, and what to do with it."""
    for path in written["paths"].values():
        console.print(f"  {escape(short_path(path))}", soft_wrap=True)
    file = escape(shlex.quote(short_path(written["paths"]["audit"])))
    console.print(
        f"\nFill in what is not stated (intended use, licences, sources, datasheet, owner), then run:\n"
        f"  koda models {file}\n  koda data {file}\n  koda audit {file}",
        soft_wrap=True,
    )
