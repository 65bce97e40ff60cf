"""Image models of timm: the embeddings are timm's own, and nothing is left at random."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import save_file

from koda.config import ModelSpec
from koda.errors import ModelError
from koda.models import load_encoder, resolve_model

MEAN, STD = [0.5, 0.45, 0.4], [0.25, 0.2, 0.3]


def spec(name: str, file: Path, **settings: object) -> ModelSpec:
    stated = {"pretrained": str(file), "image_mean": MEAN, "image_std": STD, "precision": "fp32", **settings}
    return ModelSpec.model_validate({"name": f"timm:{name}", **stated})


def write(tmp_path: Path, name: str, classes: int, suffix: str = ".safetensors") -> tuple[torch.nn.Module, Path]:
    torch.manual_seed(0)
    model = timm.create_model(name, num_classes=classes).eval()
    file = tmp_path / f"weights{suffix}"
    if suffix == ".safetensors":
        save_file(model.state_dict(), file)
    else:
        torch.save({"epoch": 3, "state_dict": model.state_dict()}, file)
    return model, file


@pytest.mark.parametrize(
    ("name", "classes", "suffix"),
    [
        ("resnet10t", 1000, ".safetensors"),
        ("resnet10t", 7, ".pt"),
        ("resnet10t", 0, ".safetensors"),
        ("test_vit", 1000, ".safetensors"),
        ("deit_tiny_distilled_patch16_224", 3, ".safetensors"),
    ],
)
def test_embeddings_are_the_pooled_features_of_timm(tmp_path: Path, name: str, classes: int, suffix: str) -> None:
    model, file = write(tmp_path, name, classes, suffix)
    encoder = load_encoder(resolve_model(spec(name, file)), "cpu")
    image = Image.fromarray(np.random.default_rng(0).integers(0, 255, (200, 300, 3), dtype=np.uint8))
    config = timm.data.resolve_data_config({"mean": MEAN, "std": STD}, pretrained_cfg=model.pretrained_cfg)
    transform = timm.data.create_transform(**config)
    model.reset_classifier(0)
    with torch.inference_mode():
        features = model(transform(image)[None])
    expected = (features / features.norm(dim=1, keepdim=True)).numpy()
    found = encoder.encode_images(encoder.preprocess(image)[None])
    assert np.allclose(found, expected, atol=1e-6)
    assert encoder.modalities == ("image",)
    assert encoder.dims == {"image": found.shape[1]}
    told = encoder.describe()
    assert (told["tokenizer"], told["context_length"], told["activation"]) == (None, None, None)
    assert told["embedding_dim"] == found.shape[1]


def test_weights_that_miss_a_tensor_are_refused(tmp_path: Path) -> None:
    model, file = write(tmp_path, "resnet10t", 7)
    state = model.state_dict()
    state.pop("layer2.0.conv1.weight")
    save_file(state, file)
    with pytest.raises(ModelError, match=r"do not load.*layer2\.0\.conv1\.weight"):
        load_encoder(resolve_model(spec("resnet10t", file)), "cpu")
    state["layer2.0.conv1.weight"] = torch.full_like(model.state_dict()["layer2.0.conv1.weight"], float("nan"))
    save_file(state, file)
    with pytest.raises(ModelError, match="NaN or infinity"):
        load_encoder(resolve_model(spec("resnet10t", file)), "cpu")


def test_the_fingerprint_holds_weights_and_preprocessing(tmp_path: Path) -> None:
    _, file = write(tmp_path, "resnet10t", 7)
    first = resolve_model(spec("resnet10t", file))
    assert first.fingerprint.preprocessing["mean"] == MEAN
    assert first.label == "resnet10t@weights.safetensors"
    assert resolve_model(spec("resnet10t", file, label="x")).fingerprint.digest == first.fingerprint.digest
    for other in ({"image_size": 128}, {"image_mean": [0.1] * 3}, {"precision": "bf16"}):
        assert resolve_model(spec("resnet10t", file, **other)).fingerprint.digest != first.fingerprint.digest


def test_a_vit_takes_the_stated_image_size(tmp_path: Path) -> None:
    _, file = write(tmp_path, "test_vit", 10)
    encoder = load_encoder(resolve_model(spec("test_vit", file, image_size=96)), "cpu")
    assert encoder.pixels is not None
    assert encoder.pixels.size == (96, 96)


def test_a_tag_brings_its_preprocessing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, file = write(tmp_path, "resnet18", 1000)
    monkeypatch.setattr("koda.models.timm_models._fetch", lambda spec, known: file)
    for name, pretrained in (("timm:resnet18", "a1_in1k"), ("timm:resnet18.a1_in1k", None)):
        model = resolve_model(ModelSpec(name=name, pretrained=pretrained))
        known = timm.get_pretrained_cfg("resnet18.a1_in1k")
        assert model.fingerprint.preprocessing["mean"] == list(known.mean)
        assert model.fingerprint.preprocessing["crop_pct"] == known.crop_pct


@pytest.mark.parametrize(
    ("name", "pretrained", "words"),
    [
        ("timm:resnet19", "a1_in1k", "Did you mean 'resnet18'"),
        ("timm:resnet18", None, r"(?s)has no weights.*a1_in1k"),
        ("timm:resnet18", "no_such_tag", r"(?s)neither a checkpoint file nor a tag.*a1_in1k"),
    ],
)
def test_a_model_that_is_not_there_is_said_so(name: str, pretrained: str | None, words: str) -> None:
    with pytest.raises(ModelError, match=words):
        resolve_model(ModelSpec(name=name, pretrained=pretrained))


def test_a_file_must_say_its_preprocessing(tmp_path: Path) -> None:
    _, file = write(tmp_path, "resnet10t", 7)
    with pytest.raises(ModelError, match=r"(?s)how its images were normalised.*image_mean: \[0.485"):
        resolve_model(ModelSpec(name="timm:resnet10t", pretrained=str(file)))


def test_weights_that_cannot_be_fetched_are_said_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*_: object, **__: object) -> str:
        from huggingface_hub.errors import LocalEntryNotFoundError

        raise LocalEntryNotFoundError("no connection")

    monkeypatch.setattr("huggingface_hub.hf_hub_download", offline)
    with pytest.raises(ModelError, match=r"(?s)cannot be fetched: no connection\..*give its path"):
        resolve_model(ModelSpec(name="timm:resnet18", pretrained="a1_in1k"))
