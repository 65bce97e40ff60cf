"""The demonstration data set on disk: a table of captions beside a folder of pictures."""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from koda.demo.scenes import ATTRIBUTES, N_TEMPLATES, Scene, caption, draw, sample_scenes
from koda.errors import DataError
from koda.storage.writing import new_folder

DATA_VERSION = 1  # raise it when the same seed would give other pictures or captions
TABLE, IMAGES, MANIFEST = "pairs.tsv", "images", "demo.json"
COLUMNS = ("filepath", "title", "key", *ATTRIBUTES)


def write_data(folder: Path, n: int = 4000, seed: int = 0) -> Path:
    """Write n scenes as ``pairs.tsv`` and ``images/``, and return the folder.

    The table is tab separated: ``filepath`` (from the folder), ``title`` (the caption), ``key``, and a
    column for each of the seven attributes. The same n and seed give the same table and the same
    pixels. Everything is made in a temporary folder beside and moved into place at the end, so the
    folder is either whole or not there; a whole one is used again.

    Args:
        folder: where; it may be missing, empty, or an earlier result of the same call.
        n: pairs.
        seed: of the scenes. They never come from the random streams of the models' training.

    Raises:
        DataError: n is not positive, or the folder holds something else.
    """
    folder = Path(folder)
    wanted = {"version": DATA_VERSION, "n": n, "seed": seed}
    if _is_whole(folder, wanted):
        return folder
    scenes = sample_scenes(n, seed)
    _refuse_foreign(folder, wanted)
    partial = new_folder(folder.parent, f".{folder.name}-")
    try:
        _write(partial, scenes, wanted)
        _move_into_place(partial, folder, wanted)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return folder


def _write(folder: Path, scenes: list[Scene], wanted: dict[str, int]) -> None:
    """Write pictures, table and, last, the manifest that says what a whole folder holds."""
    (folder / IMAGES).mkdir()
    wording = random.Random(f"koda demo captions, {wanted['seed']}")
    names = [f"{i:06d}" for i in range(len(scenes))]
    templates = [int(wording.random() * N_TEMPLATES) for _ in scenes]

    def save(i: int) -> int:
        path = folder / IMAGES / f"{names[i]}.png"
        draw(scenes[i]).save(path, compress_level=6)
        return path.stat().st_size

    with ThreadPoolExecutor(max_workers=2) as pool:  # compression lets go of the interpreter
        sizes = list(pool.map(save, range(len(scenes)), chunksize=64))

    lines = ["\t".join(COLUMNS)]
    for name, scene, template in zip(names, scenes, templates, strict=True):
        lines.append("\t".join((f"{IMAGES}/{name}.png", caption(scene, template), name, *scene.labels().values())))
    table = ("\n".join(lines) + "\n").encode()
    (folder / TABLE).write_bytes(table)
    manifest = wanted | {"table_sha256": hashlib.sha256(table).hexdigest(), "image_bytes": sum(sizes)}
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n")


def _manifest(folder: Path) -> dict[str, Any] | None:
    """Return the manifest, or None if there is none that can be read."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text())
    except (OSError, ValueError):
        return None
    return manifest if isinstance(manifest, dict) else None


def _is_whole(folder: Path, wanted: dict[str, int]) -> bool:
    """Whether the folder holds exactly this data set: the table by digest, the pictures by number and bytes."""
    manifest = _manifest(folder)
    if manifest is None or any(manifest.get(name) != value for name, value in wanted.items()):
        return False
    try:
        table = (folder / TABLE).read_bytes()
        sizes = [entry.stat().st_size for entry in os.scandir(folder / IMAGES)]
    except OSError:
        return False
    return (
        hashlib.sha256(table).hexdigest() == manifest.get("table_sha256")
        and len(sizes) == wanted["n"]
        and sum(sizes) == manifest.get("image_bytes")
    )


def _refuse_foreign(folder: Path, wanted: dict[str, int]) -> None:
    """Refuse a folder that is not ours to replace.

    Raises:
        DataError: the folder holds other files, or demonstration data of another size or seed.
    """
    if not folder.exists():
        return
    if not folder.is_dir():
        raise DataError(f"{folder} is a file.", "Name a folder for the demonstration data.")
    manifest = _manifest(folder)
    if manifest is None:
        if any(folder.iterdir()):
            raise DataError(
                f"{folder} is not empty, and what it holds is not a data set of koda's.",
                "Name another folder, or empty this one.",
            )
    elif any(manifest.get(name) != value for name, value in wanted.items()):
        raise DataError(
            f"{folder} holds demonstration data of n = {manifest.get('n')}, seed = {manifest.get('seed')}, "
            f"version {manifest.get('version')}; asked for were n = {wanted['n']}, seed = {wanted['seed']}, "
            f"version {wanted['version']}.",
            "Name another folder, or delete this one.",
        )


def _move_into_place(partial: Path, folder: Path, wanted: dict[str, int]) -> None:
    """Rename the finished folder; a damaged one of the same data set gives way, a whole one stays."""
    if _is_whole(folder, wanted):  # another process was first, with the same data
        return
    if folder.exists() and any(folder.iterdir()):
        aside = new_folder(folder.parent, f".{folder.name}-")
        folder.replace(aside)
        shutil.rmtree(aside, ignore_errors=True)
    try:
        partial.replace(folder)
    except OSError:
        if not _is_whole(folder, wanted):  # another process was first, between the look and the move
            raise
