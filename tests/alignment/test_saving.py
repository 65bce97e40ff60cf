"""An aligned model on disk: it loads by itself, wherever the student's parts came from."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from koda.alignment.saving import save_model
from koda.config import ModelSpec
from koda.models import load_encoder, resolve_model
from tests.models.test_tokenizers import custom, write_tokenizer


def test_the_tokenizer_of_an_architecture_of_ones_own_is_saved_with_it(tmp_path: Path) -> None:
    model = custom(tmp_path)
    write_tokenizer(tmp_path / "configs")
    student = resolve_model(model)
    encoder = load_encoder(student, "cpu")
    save_model(tmp_path / "aligned", student, encoder.model.state_dict())
    aligned = resolve_model(ModelSpec(name=f"local-dir:{tmp_path / 'aligned'}", precision="fp32"))
    assert aligned.fingerprint == student.fingerprint
    texts = ["a red circle"]
    assert np.array_equal(load_encoder(aligned, "cpu").encode_texts(texts), encoder.encode_texts(texts))
