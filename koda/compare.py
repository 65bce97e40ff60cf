"""Two embedding folders, no models: find what one ties together and the other does not, and write it down."""

from __future__ import annotations

import json
import math
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import ValidationError

from koda.config import DiscrepancyConfig
from koda.embeddings import EmbeddingTable, ShardedTable, TableLike, check_same_rows
from koda.errors import ConfigError, DataError, did_you_mean, nearest
from koda.slicing.export import SLICE_COLUMNS, metadata_names, table_csv
from koda.storage import digest_file, digest_json, write_atomically
from koda.storage.places import check_place
from koda.typing import MODALITIES

if TYPE_CHECKING:
    from koda.discrepancy import Solution
    from koda.embeddings.layout import Join
    from koda.slicing.slices import Lobe, Slice

MARK = "compare.json"  # it says in a folder of results which inputs they are of
SUMMARY_LENGTH = 10  # a summary lists so many keys of a lobe, and so many samples that were left out
IN_SAMPLE = (
    "The shares are those of the samples that the search itself used, not of held-out ones: evidence that a finding "
    "is real is what koda audit gives."
)

TableRole = Literal["target", "reference"]


@dataclass(frozen=True)
class Question:
    """One search, and what it found.

    Args:
        side: whose structure was looked for: "target" as asked, "reference" in the reverse question.
        solution: the directions.
        slices: their lobes, one of each direction.
    """

    side: TableRole
    solution: Solution
    slices: tuple[Slice, ...]


@dataclass(frozen=True)
class Comparison:
    """What :func:`compare_folders` found.

    Args:
        target, reference: the folders, opened.
        questions: the one asked, and with ``both`` the reverse one after it.
        notes: what a reader must know of how it was asked.
        paths: name -> what was written.
        seconds: of the whole comparison.
    """

    target: ShardedTable
    reference: ShardedTable
    questions: tuple[Question, ...]
    notes: tuple[str, ...]
    paths: Mapping[str, Path]
    seconds: float


def compare_folders(
    target: Path,
    reference: Path,
    settings: Mapping[str, Any] | None = None,
    *,
    both: bool = False,
    out: Path | None = None,
    join: Join = "keys",
) -> Comparison:
    """Find the slices that the embeddings of one folder tie together and those of the other do not.

    Args:
        target: embedding folder of the model whose structure is looked for, of either layout.
        reference: embedding folder of the model that should lack it; samples are joined by key.
        settings: fields of :class:`~koda.config.DiscrepancyConfig`, also as ``discrepancy.<field>``. The
            modality is by default all that both folders have.
        both: whether the reverse question is asked too.
        out: folder to write ``slices.csv``, ``solution.json`` and ``directions.safetensors`` to (those of the
            reverse question in ``reverse/``). It may hold earlier results of the same inputs.
        join: "rows" joins the samples by row number instead of by key.

    Raises:
        ConfigError: an unknown setting or a value out of range; an ``out`` that holds something else.
        DataError: folders that cannot be read or compared.
        SolverError: a solution that fails its final checks.
        StoreError: ``out`` cannot be written.
    """
    began = time.perf_counter()
    tables = EmbeddingTable.open(target, join), EmbeddingTable.open(reference, join)
    config, notes = _configure(settings or {}, *tables)
    if join == "rows":
        notes.append(f"{check_same_rows(*tables)}.")
    elif other := _other_captions(*tables):
        notes.append(other)
    inputs = None
    if out is not None:
        inputs = _inputs(*tables, config, both, join)
        check_out(out, inputs)
    questions = [_ask("target", *tables, config)]
    if both:
        questions.append(_ask("reference", *tables[::-1], config))
    paths: dict[str, Path] = {}
    if out is not None and inputs is not None:
        paths = _write(out, inputs, questions, *tables)
    seconds = round(time.perf_counter() - began, 3)
    return Comparison(*tables, tuple(questions), (*notes, IN_SAMPLE), paths, seconds)


def summarise(comparison: Comparison) -> dict[str, Any]:
    """Return a comparison as the JSON object that ``koda compare --json`` prints; what is not finite is null."""
    first, *rest = comparison.questions
    rejected = first.solution.rejected
    folders = {"target": str(comparison.target.source.folder), "reference": str(comparison.reference.source.folder)}
    result = {
        **folders,
        "n": len(first.solution.keys),
        "modality": first.solution.config.modality,
        "rejected": {
            "count": len(rejected),
            "reasons": dict(Counter(rejected.values()).most_common()),
            "first": dict(list(rejected.items())[:SUMMARY_LENGTH]),
        },
        **_summarise_question(first),
        "paths": {name: str(path) for name, path in comparison.paths.items()},
        "notes": list(comparison.notes),
        "seconds": comparison.seconds,
    }
    if rest:
        exchanged = {"target": folders["reference"], "reference": folders["target"]}
        result["reverse"] = {**exchanged, **_summarise_question(rest[0])}
    plain: dict[str, Any] = _plain(result)
    return plain


def _summarise_question(question: Question) -> dict[str, Any]:
    solution, pair = question.solution, question.solution.kernels
    return {
        "eps": solution.eps,
        "status": solution.status,
        "kernels": {
            "kind": pair.target.kind,
            "sigmas": {"target": pair.target.bandwidths, "reference": pair.reference.bandwidths},
            "rule": pair.rule,
        },
        "stats": dict(solution.stats),
        "directions": [
            {
                "direction": piece.direction,
                "name": piece.name,
                "status": direction.status,
                "target_energy": direction.target_energy,
                "reference_energy": direction.reference_energy,
                "target_share": direction.target_share,
                "reference_share": direction.reference_share,
                "quotient": direction.quotient,
                "multiplier": direction.multiplier,
                "gap": direction.gap,
                "positive": _summarise_lobe(piece.positive),
                "negative": _summarise_lobe(piece.negative),
            }
            for direction, piece in zip(solution.directions, question.slices, strict=True)
        ],
    }


def _summarise_lobe(lobe: Lobe) -> dict[str, Any]:
    return {
        "name": lobe.name,
        "size": lobe.size,
        "keys": list(lobe.keys[:SUMMARY_LENGTH]),
        "words": [word.text for word in lobe.words],
        "metadata": [f"{item.column} = {item.value}" for item in lobe.metadata],
    }


def _plain(value: Any) -> Any:
    """Turn a value into JSON's own types; numbers that are not finite, which JSON lacks, become null."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if hasattr(value, "tolist"):  # numpy's numbers and arrays
        return _plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if value is None or isinstance(value, str | bool | int | float) else str(value)


def _configure(
    settings: Mapping[str, Any], target: TableLike, reference: TableLike
) -> tuple[DiscrepancyConfig, list[str]]:
    """Check the settings; where no modality is set, choose what both tables have, and say so if it is not all."""
    chosen = {key.removeprefix("discrepancy."): value for key, value in settings.items()}
    known = list(DiscrepancyConfig.model_fields)
    for key in chosen:
        if key not in known:
            hint = did_you_mean(nearest(key, known)) or f"A comparison has the settings {', '.join(known)}."
            raise ConfigError(f"There is no setting {key!r}.", hint)
    notes = []
    if "modality" not in chosen:
        shared = [name for name in MODALITIES if name in target.modalities and name in reference.modalities]
        if not shared:
            raise DataError(
                f"The target has {' and '.join(target.modalities)} embeddings only, the reference "
                f"{' and '.join(reference.modalities)} embeddings only: nothing can be compared.",
                "Embed the same modality with both models.",
            )
        chosen["modality"] = "joint" if len(shared) == 2 else shared[0]
        if len(shared) == 1:
            (absent,) = set(MODALITIES) - set(shared)
            notes.append(
                f"Compared by the {shared[0]} embeddings alone: there are no {absent} embeddings in "
                + " and ".join(
                    f"the {role}"
                    for role, table in (("target", target), ("reference", reference))
                    if absent not in table.modalities
                )
                + "."
            )
    try:
        return DiscrepancyConfig.model_validate(chosen), notes
    except ValidationError as error:
        lines = dict.fromkeys(_explain(item) for item in error.errors())
        raise ConfigError("\n".join(lines)) from None


def _other_captions(target: ShardedTable, reference: ShardedTable) -> str:
    """Say where the samples of equal keys have other captions: then the keys may not name the same samples."""
    if not all("caption" in table.metadata for table in (target, reference)):
        return ""
    theirs = dict(zip(reference.keys, reference.metadata["caption"], strict=True))
    pairs = [(own, theirs[k]) for k, own in zip(target.keys, target.metadata["caption"], strict=True) if k in theirs]
    differ = sum(own != other for own, other in pairs)
    if not differ:
        return ""
    return (
        f"{differ} of {len(pairs)} samples of one key have another caption in the other folder: check that the keys "
        "of both name the same samples."
    )


def _explain(error: Any) -> str:
    """Put one validation error in words."""
    message = error["msg"].removeprefix("Value error, ")
    if not error["loc"]:
        return f"The settings do not fit together: {message}."
    got = "" if error["type"] == "value_error" else f" (it is {error['input']!r})"
    return f"{error['loc'][0]}: {message[0].lower()}{message[1:]}{got}."


def _ask(side: TableRole, target: ShardedTable, reference: ShardedTable, config: DiscrepancyConfig) -> Question:
    """Search one question and cut the slices."""
    from koda.discrepancy import find_discrepancies
    from koda.slicing.slices import slices

    solution = find_discrepancies(target, reference, config)
    used = tuple(solution.kernels.target.sigmas)
    loaded = (table.only(used).select(solution.keys).to_memory() for table in (target, reference))
    return Question(side, solution, slices(solution, *loaded))


def _inputs(
    target: ShardedTable, reference: ShardedTable, config: DiscrepancyConfig, both: bool, join: Join
) -> dict[str, Any]:
    """Return what decides a result: the content of both folders and the settings."""
    digests = {
        role: digest_json({path.relative_to(table.source.folder).as_posix(): digest_file(path) for path in table.files})
        for role, table in (("target", target), ("reference", reference))
    }
    by_row = {"join": join} if join == "rows" else {}
    return {**digests, "settings": config.model_dump(mode="json"), "both": both, **by_row}


def check_out(out: Path, inputs: Mapping[str, Any]) -> None:
    """Check that results may be written to a folder: new, empty, or with earlier results of the same inputs.

    Raises:
        ConfigError: a file, or a folder that holds something else.
        WriteError: a folder that cannot be written.
    """
    if out.is_file():
        raise ConfigError(f"{out} is a file.", "Give the name of a folder.")
    check_place(out)
    if not out.is_dir() or not any(out.iterdir()):
        return
    try:
        earlier = json.loads((out / MARK).read_bytes())["inputs"]
    except (OSError, ValueError, KeyError, TypeError):
        raise ConfigError(
            f"{out} is not empty and holds no result of koda compare.", "Give --out a new folder."
        ) from None
    if earlier != inputs:
        changed = [name for name in inputs if earlier.get(name) != inputs[name]]
        raise ConfigError(
            f"{out} holds the result of another comparison (different: {', '.join(changed)}).",
            "Give --out a new folder, or remove this one.",
        )


def _write(
    out: Path, inputs: dict[str, Any], questions: list[Question], target: ShardedTable, reference: ShardedTable
) -> dict[str, Path]:
    """Write the results, each file whole or not at all; the mark comes first, so that a run cut short can be taken up.

    Raises:
        StoreError: the folder cannot be written.
    """
    from koda.discrepancy.saving import save_solution

    mark = json.dumps({"inputs": inputs}, indent=1, sort_keys=True).encode()
    write_atomically(out / MARK, mark)
    for question in questions:
        save_solution(question.solution, out if question.side == "target" else out / "reverse")
    write_atomically(out / "slices.csv", slices_csv(questions, target, reference))
    names = ("slices.csv", "solution.json", "directions.safetensors", *(["reverse"] if len(questions) > 1 else []))
    return {"folder": out, **{name.partition(".")[0]: out / name for name in names}}


def slices_csv(questions: list[Question], target: TableLike, reference: TableLike) -> bytes:
    """Return the rankings as CSV: a row a sample, with its metadata, and `in_slice` for the members of the lobe."""
    ranked = [
        (question.side, piece.direction, lobe) for question in questions for piece in question.slices
        for lobe in (piece.positive, piece.negative)
    ]  # fmt: skip
    keys = tuple(dict.fromkeys(key for *_, lobe in ranked for key in lobe.keys))
    columns: dict[str, Mapping[str, Any]] = {}  # name -> key -> value
    for table in (reference, target) if keys else ():  # the target's columns win
        for name, values in table.select(keys).metadata.items():
            columns[name] = dict(zip(keys, values, strict=True))
    captions = columns.get("caption", {})
    names = metadata_names(name for name in columns if name != "caption")
    rows = (
        {
            "side": side,
            "direction": direction,
            "lobe": lobe.sign,
            "rank": rank,
            "key": key,
            "score": score,
            "caption": captions.get(key),
            **{name: columns[column][key] for column, name in names.items()},
            "in_slice": rank <= lobe.size,
        }
        for side, direction, lobe in ranked
        for rank, (key, score) in enumerate(zip(lobe.keys, lobe.scores.tolist(), strict=True), start=1)
    )
    return table_csv([*SLICE_COLUMNS, *names.values(), "in_slice"], rows)
