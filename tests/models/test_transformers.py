"""CLIP and SigLIP as transformers saves them: the embeddings are transformers' own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, SiglipConfig, SiglipImageProcessor, SiglipModel

from koda.alignment.student import check_student
from koda.config import ModelSpec
from koda.errors import ModelError
from koda.models import load_encoder, resolve_model
from tests.models.test_tokenizers import WORDS, write_tokenizer

TEXT = {"vocab_size": len(WORDS) + 3, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1,
        "num_attention_heads": 2, "max_position_embeddings": 8, "pad_token_id": 0, "bos_token_id": 1,
        "eos_token_id": 2}  # fmt: skip
VISION = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2,
          "image_size": 16, "patch_size": 8}  # fmt: skip
TEXTS = ["a red circle", "the blue star"]


def write_clip(folder: Path, **saving: Any) -> tuple[CLIPModel, CLIPImageProcessor]:
    torch.manual_seed(0)
    model = CLIPModel(CLIPConfig(text_config=TEXT, vision_config=VISION, projection_dim=12)).eval()
    model.save_pretrained(folder, **saving)
    processor = CLIPImageProcessor(size={"shortest_edge": 20}, crop_size={"height": 16, "width": 16}, resample=3)
    processor.save_pretrained(folder)
    write_tokenizer(folder)
    return model, processor


def write_siglip(folder: Path) -> tuple[SiglipModel, SiglipImageProcessor]:
    torch.manual_seed(0)
    model = SiglipModel(SiglipConfig(text_config=TEXT, vision_config=VISION)).eval()
    model.save_pretrained(folder)
    processor = SiglipImageProcessor(size={"height": 16, "width": 16}, resample=2)
    processor.save_pretrained(folder)
    write_tokenizer(folder)
    return model, processor


def spec(folder: Path, **settings: object) -> ModelSpec:
    return ModelSpec.model_validate({"name": f"local-dir:{folder}", "precision": "fp32", **settings})


@pytest.mark.parametrize("write", [write_clip, write_siglip])
def test_embeddings_are_those_of_transformers(tmp_path: Path, write: Any) -> None:
    model, processor = write(tmp_path)
    encoder = load_encoder(resolve_model(spec(tmp_path)), "cpu")
    image = Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 30, 3), dtype=np.uint8))
    pixels = processor(image, return_tensors="pt")["pixel_values"]
    # some versions of transformers resize tensors and koda pictures, which differ by a rounding
    assert torch.allclose(encoder.preprocess(image)[None], pixels, atol=0.05)
    made = encoder.tokenizer.tokenizer(TEXTS, padding="max_length", max_length=8, return_tensors="pt")
    named = {"input_ids": made["input_ids"]} | (
        {"attention_mask": made["attention_mask"]} if write is write_clip else {}
    )
    with torch.inference_mode():
        outputs = model.get_image_features(pixel_values=pixels), model.get_text_features(**named)
    expected = [getattr(output, "pooler_output", output) for output in outputs]
    expected = [each / each.norm(dim=-1, keepdim=True) for each in expected]
    assert np.allclose(encoder.encode_images(pixels), expected[0], atol=1e-6)
    assert np.allclose(encoder.encode_texts(TEXTS), expected[1], atol=1e-6)
    assert encoder.count_long(["a " * 3, "a " * 20]) == 1
    assert encoder.describe()["context_length"] == 8


def test_sharded_weights_and_those_of_a_checkpoint_are_read(tmp_path: Path) -> None:
    model, _ = write_clip(tmp_path / "whole")
    first = resolve_model(spec(tmp_path / "whole"))
    write_clip(tmp_path / "shards", max_shard_size="10KB")
    sharded = resolve_model(spec(tmp_path / "shards"))
    assert sharded.weights_file == "model.safetensors.index.json"
    assert sharded.fingerprint.digest == first.fingerprint.digest
    load_encoder(sharded, "cpu")
    torch.save({"model": model.state_dict(), "epoch": 2}, tmp_path / "epoch_2.pt")
    trained = resolve_model(spec(tmp_path / "whole", pretrained=str(tmp_path / "epoch_2.pt")))
    assert trained.fingerprint.digest == first.fingerprint.digest


def test_every_file_that_it_is_built_from_counts(tmp_path: Path) -> None:
    write_clip(tmp_path)
    first = resolve_model(spec(tmp_path)).fingerprint.digest
    for name, change in (
        ("config.json", {"projection_dim": 13}),
        ("preprocessor_config.json", {"resample": 2}),
        ("tokenizer_config.json", {"unk_token": "a"}),
    ):
        path = tmp_path / name
        former = path.read_text()
        path.write_text(json.dumps({**json.loads(former), **change}))
        assert resolve_model(spec(tmp_path)).fingerprint.digest != first
        path.write_text(former)
    raw = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**raw, "transformers_version": "4.1"}))
    assert resolve_model(spec(tmp_path)).fingerprint.digest == first


def test_the_processor_of_version_5_is_understood(tmp_path: Path) -> None:
    write_clip(tmp_path)
    first = resolve_model(spec(tmp_path)).fingerprint.digest
    path = tmp_path / "preprocessor_config.json"
    (tmp_path / "processor_config.json").write_text(json.dumps({"image_processor": json.loads(path.read_text())}))
    path.unlink()
    assert resolve_model(spec(tmp_path)).fingerprint.digest == first


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        ("config.json", {"model_type": "blip"}, r"(?s)of the type 'blip'; koda loads clip and siglip.*python:file"),
        (
            "config.json",
            {"auto_map": {"AutoModel": "theirs.Model"}},
            "code that comes with the model for its AutoModel",
        ),
        ("preprocessor_config.json", {"rescale_factor": 0.5}, "does not know: rescale_factor 0.5"),
        ("preprocessor_config.json", {"size": {"longest_edge": 3}}, "does not know: size"),
        ("tokenizer_config.json", {"auto_map": {"AutoTokenizer": ["theirs.T", None]}}, "for its AutoTokenizer"),
    ],
)
def test_what_koda_does_not_know_is_refused(tmp_path: Path, name: str, change: dict[str, Any], words: str) -> None:
    write_clip(tmp_path)
    path = tmp_path / name
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(ModelError, match=words):
        resolve_model(spec(tmp_path))


def test_preprocessing_must_be_stated(tmp_path: Path) -> None:
    write_clip(tmp_path)
    (tmp_path / "preprocessor_config.json").unlink()
    with pytest.raises(ModelError, match=r"does not state the preprocessing \(preprocessor_config\.json\)"):
        resolve_model(spec(tmp_path))
    stated = resolve_model(spec(tmp_path, image_mean=[0.5] * 3, image_std=[0.5] * 3))
    assert load_encoder(stated, "cpu").preprocess(Image.new("RGB", (9, 30))).shape == (3, 16, 16)


def test_a_weight_that_is_missing_is_never_random(tmp_path: Path) -> None:
    model, _ = write_clip(tmp_path)
    state = model.state_dict()
    state.pop("visual_projection.weight")
    torch.save(state, tmp_path / "weights.pt")
    with pytest.raises(ModelError, match=r"do not load.*visual_projection\.weight"):
        load_encoder(resolve_model(spec(tmp_path, pretrained=str(tmp_path / "weights.pt"))), "cpu")


def test_it_is_no_student(tmp_path: Path) -> None:
    write_clip(tmp_path)
    with pytest.raises(ModelError, match="it is a model of transformers"):
        check_student(resolve_model(spec(tmp_path)))
