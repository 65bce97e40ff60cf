"""Stored embeddings in place of models: joined to the data set by key, or by row where that is asked for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from koda.audit.plan import prepare
from koda.config import AuditConfig, DataConfig, ModelSpec
from koda.embeddings import EmbeddingTable
from koda.errors import DataError, KodaError
from koda.extraction import KIND, extract, load_embeddings
from koda.storage.parquet import write_parquet


def write_folder(folder: Path, values: np.ndarray, captions: list[str]) -> Path:
    """Write clip-retrieval's layout with keys that restart in its second half."""
    (folder / "img_emb").mkdir(parents=True)
    np.save(folder / "img_emb" / "img_emb_0.npy", values)
    keys = [f"{i % (len(values) // 2):05d}" for i in range(len(values))]
    write_parquet(folder / "metadata" / "metadata_0.parquet", {"key": keys, "caption": captions})
    return folder


def test_stored_embeddings_without_keys_are_joined_by_row_only_where_that_is_asked_for(tmp_path: Path) -> None:
    captions = [f"thing {i}" for i in range(20)]
    values = np.random.default_rng(0).normal(size=(20, 4)).astype(np.float32)
    old, new = write_folder(tmp_path / "old", values, captions), write_folder(tmp_path / "new", -values, captions)
    models = {role: {"name": f"embeddings:{folder}"} for role, folder in (("baseline", old), ("candidate", new))}
    audit = AuditConfig.model_validate(
        {**models, "data": {"path": str(old)}, "discrepancy": {"modality": "image", "device": "cpu"}}
    )
    with pytest.raises(DataError, match="10 of 20 rows repeat the 'key'"):
        prepare(audit, tmp_path / "home")
    by_row = audit.model_copy(update={"data": audit.data.model_copy(update={"join": "rows"})})
    plan = prepare(by_row, tmp_path / "home")
    assert [pair.caption for pair in sorted(plan.dataset.pairs, key=lambda pair: int(pair.key))] == captions
    extract(plan.artifacts, plan.dataset, plan.models["candidate"])
    table = load_embeddings(plan.artifacts, plan.embedding_key("candidate"), plan.dataset)
    assert np.array_equal(table.image, -values[[int(key) for key in table.keys]])  # type: ignore[arg-type]

    shifted = write_folder(tmp_path / "shifted", values, [captions[-1], *captions[:-1]])
    with pytest.raises(DataError, match="20 of 20 differ in the column 'caption'"):
        prepare(by_row.model_copy(update={"candidate": ModelSpec(name=f"embeddings:{shifted}")}), tmp_path / "home")
    (tmp_path / "p.csv").write_text("filepath,title\n1.png,x\n")
    with pytest.raises(KodaError, match=r"join: rows has no meaning for a table .*\n.*embedding folder"):
        prepare(by_row.model_copy(update={"data": DataConfig(path=str(tmp_path / "p.csv"), join="rows")}), tmp_path)


@pytest.mark.parametrize("shift", [0, 1])
def test_embeddings_whose_keys_name_other_samples_are_noted(tmp_path: Path, shift: int) -> None:
    captions = [f"thing {i}" for i in range(40)]
    values = np.random.default_rng(0).normal(size=(40, 4))
    keys = [str(i) for i in range(40)]
    EmbeddingTable(keys, image=values, metadata={"caption": captions}).save(tmp_path / "old")
    others = [captions[(i + shift) % 40] for i in range(40)]
    EmbeddingTable(keys, image=-values, metadata={"caption": others}).save(tmp_path / "new")
    audit = AuditConfig.model_validate(
        {
            "baseline": {"name": f"embeddings:{tmp_path / 'old'}"},
            "candidate": {"name": f"embeddings:{tmp_path / 'new'}"},
            "data": {"path": str(tmp_path / "old")},
            "discrepancy": {"modality": "image", "device": "cpu"},
        }
    )
    plan = prepare(audit, tmp_path / "home")
    extract(plan.artifacts, plan.dataset, plan.models["candidate"])
    info = plan.artifacts.info(KIND, plan.embedding_key("candidate"))
    assert info is not None
    assert [note.split(" samples")[0] for note in info["notes"]] == (["40 of 40"] if shift else [])
