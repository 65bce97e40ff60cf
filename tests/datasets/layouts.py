"""The same samples in every layout that koda reads, on disk or in memory://."""

from __future__ import annotations

import io
import json
import os
import tarfile
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

# Hugging Face's library: no network, no bars
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")
COLUMNS = ("key", "filepath", "title", "colour")


@dataclass(frozen=True)
class Entry:
    """A sample; what is None is missing."""

    key: str
    caption: str | None
    image: bytes | None
    colour: str = "red"
    corrupt: bool = False


def entries(n: int = 6) -> list[Entry]:
    rng = np.random.default_rng(0)
    return [
        Entry(f"{i:09d}", f"caption {i}, é", png(rng.integers(0, 255, (6, 5, 3))), "blue" if i % 2 else "red")
        for i in range(n)
    ]


def png(pixels: Any) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.asarray(pixels, dtype=np.uint8)).save(file, "png")
    return file.getvalue()


def put(location: str, data: bytes) -> None:
    if "://" in location:
        fsspec.filesystem("memory").pipe_file(location, data)
        return
    Path(location).parent.mkdir(parents=True, exist_ok=True)
    Path(location).write_bytes(data)


def write_table(root: str, samples: Sequence[Entry], suffix: str) -> dict[str, Any]:
    """A table of captions; a corrupt row has fields too many (in Parquet: no key)."""
    rows = []
    for number, entry in enumerate(samples):
        name = f"{entry.key}-{number}.png"
        if entry.image is not None:
            put(f"{root}/photos/{name}", entry.image)
        rows.append((entry.key, name, entry.caption, entry.colour))
    if suffix == "parquet":
        rows = [(None, *row[1:]) if entry.corrupt else row for entry, row in zip(samples, rows, strict=True)]
        file = io.BytesIO()
        pq.write_table(pa.table({name: [row[i] for row in rows] for i, name in enumerate(COLUMNS)}), file)
        data = file.getvalue()
    else:
        delimiter = {"csv": ",", "tsv": "\t"}[suffix]
        quoted = [
            [f'"{field or ""}"' for field in row] + ["more"] * e.corrupt for e, row in zip(samples, rows, strict=True)
        ]
        data = "\n".join(delimiter.join(row) for row in [COLUMNS, *quoted]).encode()
    put(f"{root}/pairs.{suffix}", data)
    return {"path": f"{root}/pairs.{suffix}", "images": f"{root}/photos"}


def write_coco(root: str, samples: Sequence[Entry]) -> dict[str, Any]:
    """COCO captions; a corrupt row is an image without an id."""
    images: list[Any] = []
    annotations = []
    for number, entry in enumerate(samples):
        name = f"{entry.key}-{number}.png"
        if entry.image is not None:
            put(f"{root}/val2017/{name}", entry.image)
        image = {"id": entry.key, "file_name": name, "colour": entry.colour}
        images.append([image] if entry.corrupt else image)
        if entry.caption is not None and not entry.corrupt and entry.key not in {e.key for e in samples[:number]}:
            annotations.append({"id": int(entry.key) + 100, "image_id": entry.key, "caption": entry.caption})
    put(f"{root}/captions.json", json.dumps({"images": images, "annotations": annotations}).encode())
    return {"path": f"{root}/captions.json", "images": f"{root}/val2017"}


def write_webdataset(root: str, samples: Sequence[Entry]) -> dict[str, Any]:
    """Two shards; a corrupt row has a caption that is not UTF-8."""
    half = (len(samples) + 1) // 2
    for number, part in enumerate((samples[:half], samples[half:])):
        put(f"{root}/shards/{number:05d}.tar", tar([member for entry in part for member in members(entry)]))
    return {"path": f"{root}/shards/{{00000..00001}}.tar"}


def members(entry: Entry) -> list[tuple[str, bytes]]:
    about = {"colour": entry.colour, "caption": "not this one", "key": entry.key, "exif": {"no": "scalar"}}
    found = [(f"{entry.key}.json", json.dumps(about if entry.caption else {"colour": entry.colour}).encode())]
    if entry.caption is not None:
        found.append((f"{entry.key}.txt", b"\xff" if entry.corrupt else entry.caption.encode()))
    if entry.image is not None:
        found.append((f"{entry.key}.png", entry.image))
    return found


def tar(files: Sequence[tuple[str, bytes]]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, data in files:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return out.getvalue()


def write_folder(root: str, samples: Sequence[Entry]) -> dict[str, Any]:
    """Images and texts; a corrupt row has a caption that is not UTF-8. A duplicate has another suffix."""
    seen = set()
    for entry in samples:
        if entry.image is not None:
            put(f"{root}/photos/{entry.key}.{'jpg' if entry.key in seen else 'png'}", entry.image)
        if entry.caption is not None:
            put(f"{root}/photos/{entry.key}.txt", b"\xff" if entry.corrupt else f"{entry.caption}\n".encode())
        seen.add(entry.key)
    return {"path": f"{root}/photos"}


def write_huggingface(root: str, samples: Sequence[Entry]) -> dict[str, Any]:
    """What `save_to_disk` writes, in two files; a corrupt row has no key."""
    from datasets import Dataset, Features, Value
    from datasets import Image as ImageFeature

    features = Features(
        {"key": Value("string"), "image": ImageFeature(), "caption": Value("string"), "colour": Value("string")}
    )
    columns = {
        "key": [None if entry.corrupt else entry.key for entry in samples],
        "image": [None if entry.image is None else {"bytes": entry.image, "path": None} for entry in samples],
        "caption": [entry.caption for entry in samples],
        "colour": [entry.colour for entry in samples],
    }
    with tempfile.TemporaryDirectory() as folder:
        Dataset.from_dict(columns, features=features).save_to_disk(folder, num_shards=2 if len(samples) > 1 else 1)
        for file in Path(folder).iterdir():
            put(f"{root}/saved/{file.name}", file.read_bytes())
    return {"path": f"{root}/saved"}


LAYOUTS: dict[str, Callable[[str, Sequence[Entry]], dict[str, Any]]] = {
    "csv": lambda root, samples: write_table(root, samples, "csv"),
    "tsv": lambda root, samples: write_table(root, samples, "tsv"),
    "parquet": lambda root, samples: write_table(root, samples, "parquet"),
    "coco": write_coco,
    "webdataset": write_webdataset,
    "folder": write_folder,
    "huggingface": write_huggingface,
}
