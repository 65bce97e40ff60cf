"""An aligned model on disk: a folder that open_clip loads as ``local-dir:``."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path

from safetensors.torch import save
from torch import Tensor

from koda.models import ResolvedModel
from koda.models.tokenizers import files_in
from koda.records import RECORD_FILE, SEEN_FILE
from koda.storage import write_atomically
from koda.storage.writing import explain_os_errors, new_folder

CONFIG, WEIGHTS = "open_clip_config.json", "open_clip_model.safetensors"
_WEIGHTS_OF_THE_STUDENT = {".safetensors", ".pt", ".bin", ".pth", ".ckpt", ".h5", ".msgpack", ".onnx"}


def save_model(folder: Path, student: ResolvedModel, weights: Mapping[str, Tensor]) -> None:
    """Write configuration, preprocessing and weights, and the files of the student's own tokenizer.

    Args:
        folder: where; each file is written whole or not at all.
        student: whose architecture, activation and preprocessing it has.
        weights: as open_clip names them.

    Raises:
        StoreError: the disk is full or read-only.
    """
    fingerprint = student.fingerprint
    config = {"model_cfg": fingerprint.config, "preprocess_cfg": fingerprint.preprocessing}
    if student.spec.kind == "local-dir":
        for path in sorted(Path(student.spec.place).iterdir()):
            beside = path.is_file() and path.suffix not in _WEIGHTS_OF_THE_STUDENT
            if beside and path.name not in {CONFIG, RECORD_FILE, SEEN_FILE} and not path.name.startswith("."):
                write_atomically(folder / path.name, path.read_bytes())
    elif student.tokenizer is not None and student.tokenizer.folder is not None:
        for path in files_in(student.tokenizer.folder):
            write_atomically(folder / path.name, path.read_bytes())
    write_atomically(folder / WEIGHTS, save(dict(weights), metadata={"format": "pt"}))
    write_atomically(folder / CONFIG, (json.dumps(config, indent=2, ensure_ascii=False) + "\n").encode())


def copy_model(folder: Path, out: Path) -> None:
    """Copy an aligned model, its record included, to a new folder: whole, or not at all.

    Raises:
        StoreError: the disk is full, or the folder cannot be written.
    """
    with explain_os_errors(out):
        temporary = new_folder(out.parent, f".{out.name}.")
        try:
            shutil.copytree(folder, temporary, dirs_exist_ok=True)
            if out.is_dir():
                out.rmdir()
            temporary.rename(out)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
