"""Models of open_clip: found, fingerprinted, loaded, and refused in words; on small checkpoints made here."""

from __future__ import annotations

import importlib.machinery
import importlib.util
import json
import os
import pickle
import shutil
from pathlib import Path

import numpy as np
import open_clip
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from koda.config import ModelSpec
from koda.errors import ModelError, PrerequisiteError
from koda.models import load_encoder, resolve_model
from koda.models.weights import look_at_weights
from tests.tiny import write_tiny_model


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_tiny_model(tmp_path / "tiny", seed=0)


def spec(folder: Path, **settings: object) -> ModelSpec:
    return ModelSpec.model_validate({"name": f"local-dir:{folder}", "precision": "fp32", **settings})


def test_embeddings_are_those_of_open_clip_of_unit_length(folder: Path) -> None:
    encoder = load_encoder(resolve_model(spec(folder)), "cpu")
    model, _, transform = open_clip.create_model_and_transforms(f"local-dir:{folder}")
    tokenizer = open_clip.get_tokenizer(f"local-dir:{folder}")
    image = Image.fromarray(np.random.default_rng(0).integers(0, 255, (20, 30, 3), dtype=np.uint8))
    model.eval()
    with torch.inference_mode():
        expected = model.encode_image(transform(image)[None], normalize=True).numpy()
        words = model.encode_text(tokenizer(["a red square"]), normalize=True).numpy()
    assert np.allclose(encoder.encode_images(encoder.preprocess(image)[None]), expected, atol=1e-6)
    assert np.allclose(encoder.encode_texts(["a red square"]), words, atol=1e-6)
    assert encoder.architecture == "CLIP, ViT, 1 layer of 32, patch 8"


def test_long_captions_are_counted(folder: Path) -> None:
    encoder = load_encoder(resolve_model(spec(folder)), "cpu")
    assert encoder.context_length == 16
    assert encoder.count_long(["short", "", "very " * 14, "very " * 15, "very " * 40, "very " * 40]) == 3
    assert encoder.count_long([]) == 0


def test_the_weights_digest_is_of_the_tensors_not_of_the_file(folder: Path, tmp_path: Path) -> None:
    file = folder / "open_clip_model.safetensors"
    state = load_file(file)
    digest = look_at_weights(file).digest
    torch.save(state, tmp_path / "a.pt")
    torch.save({"epoch": 3, "state_dict": {f"module.{k}": v for k, v in reversed(state.items())}}, tmp_path / "b.pt")
    save_file(state, tmp_path / "c.safetensors", metadata={"made": "today"})
    assert {look_at_weights(tmp_path / name).digest for name in ("a.pt", "b.pt", "c.safetensors")} == {digest}
    state["logit_scale"] = state["logit_scale"] + 1
    save_file(state, tmp_path / "d.safetensors")
    assert look_at_weights(tmp_path / "d.safetensors").digest != digest


def test_the_fingerprint_holds_what_decides_the_embeddings(folder: Path) -> None:
    first = resolve_model(spec(folder)).fingerprint
    assert resolve_model(spec(folder, label="another name")).fingerprint.digest == first.digest
    assert resolve_model(spec(folder, precision="bf16")).fingerprint.digest != first.digest
    changed = resolve_model(spec(folder, force_quick_gelu=True)).fingerprint
    assert (changed.activation, first.activation) == ("QuickGELU", "GELU")
    assert changed.digest != first.digest
    means = resolve_model(spec(folder, image_mean=[0.5] * 3, image_std=[0.5] * 3)).fingerprint
    assert means.digest != first.digest
    assert means.preprocessing["mean"] == [0.5] * 3


def test_bf16_is_close_to_fp32(folder: Path) -> None:
    image = torch.rand(3, 3, 16, 16)
    made = [
        load_encoder(resolve_model(spec(folder, precision=p)), "cpu").encode_images(image) for p in ("fp32", "bf16")
    ]
    assert ((made[0] * made[1]).sum(axis=1) > 0.999).all()


def test_a_checkpoint_file_of_a_known_architecture_must_say_its_preprocessing(tmp_path: Path) -> None:
    (tmp_path / "c.pt").write_bytes(b"")
    with pytest.raises(ModelError, match=r"(?s)how its images were normalised.*image_mean: \[0.48"):
        resolve_model(ModelSpec(name="ViT-B-32", pretrained=str(tmp_path / "c.pt")))


@pytest.mark.parametrize(
    ("name", "pretrained", "words"),
    [
        ("local-dir:/nowhere/at/all", None, "does not exist"),
        ("ViT-B-33", "openai", "did you mean|Did you mean 'ViT-B-32'"),
        ("ViT-B-32", None, "(?s)has no weights.*laion2b_s34b_b79k"),
        ("ViT-B-32", "no_such_tag", "(?s)neither a checkpoint file nor a tag.*openai"),
        ("ViT-B-32", "openai", "(?s)trained with QuickGELU.*ViT-B-32-quickgelu"),
        ("ViT-B-32-quickgelu", "laion2b_s34b_b79k", "neither a checkpoint file nor a tag|trained with GELU"),
    ],
)
def test_a_model_that_is_not_there_is_said_so(name: str, pretrained: str | None, words: str) -> None:
    with pytest.raises(ModelError, match=words):
        resolve_model(ModelSpec(name=name, pretrained=pretrained))


def test_random_weights_are_never_audited(folder: Path) -> None:
    (folder / "open_clip_model.safetensors").unlink()
    with pytest.raises(ModelError, match="no weights"):
        resolve_model(spec(folder))


def test_a_folder_must_state_its_preprocessing(folder: Path) -> None:
    path = folder / "open_clip_config.json"
    raw = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({"model_cfg": raw["model_cfg"]}), encoding="utf-8")
    with pytest.raises(ModelError, match="does not state the preprocessing"):
        resolve_model(spec(folder))
    assert resolve_model(spec(folder, image_mean=[0.5] * 3, image_std=[0.5] * 3))
    path.write_text("{", encoding="utf-8")
    with pytest.raises(ModelError, match="not an open_clip configuration"):
        resolve_model(spec(folder))
    path.unlink()
    with pytest.raises(ModelError, match=r"no open_clip_config\.json"):
        resolve_model(spec(folder))


def test_weights_that_do_not_fit_are_refused(folder: Path) -> None:
    file = folder / "open_clip_model.safetensors"
    state = load_file(file)
    save_file({k: v for k, v in state.items() if k != "visual.proj"}, file)
    with pytest.raises(ModelError, match="do not load"):
        load_encoder(resolve_model(spec(folder)), "cpu")
    state["visual.proj"][0, 0] = float("nan")
    save_file(state, file)
    with pytest.raises(ModelError, match=r"NaN or infinity.*visual\.proj"):
        load_encoder(resolve_model(spec(folder)), "cpu")
    file.write_bytes(file.read_bytes()[:-10])
    with pytest.raises(ModelError, match="cannot be read"):
        resolve_model(spec(folder))


def write_malicious(path: Path, wrapped: bool) -> None:
    if wrapped:
        torch.save({"state_dict": {"x": Malicious()}}, path)
    else:
        path.write_bytes(pickle.dumps(Malicious()))


class Malicious:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("touch koda-was-here",)


@pytest.mark.parametrize("wrapped", [True, False])
@pytest.mark.parametrize("route", ["local-dir", "open_clip file", "timm file"])
def test_a_malicious_pickle_is_refused_and_does_not_run(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, route: str, wrapped: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    (folder / "open_clip_model.safetensors").unlink()
    file = folder / "model.pt"
    write_malicious(file, wrapped)
    stated = {"pretrained": str(file), "image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    specs = {
        "local-dir": spec(folder),
        "open_clip file": ModelSpec.model_validate({"name": "ViT-B-32", **stated}),
        "timm file": ModelSpec.model_validate({"name": "timm:resnet18", **stated}),
    }
    with pytest.raises(ModelError, match="could run code" if wrapped else "could run code|cannot be read"):
        resolve_model(specs[route])
    assert not (tmp_path / "koda-was-here").exists()


@pytest.mark.parametrize("route", ["open_clip", "timm"])
def test_a_pickle_that_turns_malicious_after_it_was_looked_at_is_refused(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, route: str
) -> None:
    monkeypatch.chdir(tmp_path)
    if route == "timm":
        file = tmp_path / "r.pt"
        torch.save(timm.create_model("resnet10t").state_dict(), file)
        stated = {"pretrained": str(file), "image_mean": [0.5] * 3, "image_std": [0.5] * 3}
        model = resolve_model(ModelSpec.model_validate({"name": "timm:resnet10t", **stated}))
    else:
        weights = folder / "open_clip_model.safetensors"
        file = folder / "model.pt"
        torch.save(load_file(weights), file)
        weights.unlink()
        model = resolve_model(spec(folder))
    write_malicious(file, wrapped=True)
    with pytest.raises(ModelError):
        load_encoder(model, "cpu")
    assert not (tmp_path / "koda-was-here").exists()


def test_safetensors_are_preferred(folder: Path) -> None:
    (folder / "model.pt").write_bytes(b"never read")
    assert resolve_model(spec(folder)).checkpoint == folder / "open_clip_model.safetensors"


def with_text(folder: Path, **settings: object) -> ModelSpec:
    path = folder / "open_clip_config.json"
    raw = json.loads(path.read_text(encoding="utf-8"))
    raw["model_cfg"]["text_cfg"].update(settings)
    path.write_text(json.dumps(raw), encoding="utf-8")
    return spec(folder)


def no_transformers(name: str, package: str | None = None) -> object:
    return None if name == "transformers" else importlib.machinery.PathFinder.find_spec(name)


def test_a_tokenizer_whose_package_is_missing_names_the_command(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", no_transformers)
    file = folder / "open_clip_model.safetensors"
    stated = {"pretrained": str(file), "image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    for asked in (
        ModelSpec.model_validate({"name": "ViT-B-16-SigLIP", **stated}),
        ModelSpec.model_validate({"name": "ViT-B-16-SigLIP2", **stated}),
        with_text(folder, hf_tokenizer_name="timm/ViT-B-16-SigLIP"),
    ):
        with pytest.raises(PrerequisiteError, match=r"(?s)transformers.*pip install 'koda-audit\[siglip\]'"):
            resolve_model(asked)


def test_a_tokenizer_is_never_fetched_because_of_a_name(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = json.loads((folder / "open_clip_config.json").read_text(encoding="utf-8"))["model_cfg"]
    known = open_clip.get_model_config
    monkeypatch.setattr(open_clip, "get_model_config", lambda name: own if name == "our-siglip" else known(name))
    stated = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    weights = str(folder / "open_clip_model.safetensors")
    with pytest.raises(ModelError, match=r"(?s)fetch one from the internet.*hf_tokenizer_name"):
        resolve_model(ModelSpec.model_validate({"name": "our-siglip", "pretrained": weights, **stated}))


def test_a_text_tower_of_another_vocabulary_needs_its_tokenizer(folder: Path) -> None:
    with pytest.raises(ModelError, match="vocabulary of 32000"):
        resolve_model(with_text(folder, vocab_size=32000))


def test_settings_of_other_kinds_are_refused(folder: Path) -> None:
    with pytest.raises(ModelError, match="image_size is for timm: and python: models"):
        resolve_model(spec(folder, image_size=16))


def test_a_copied_folder_is_the_same_model(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "copy")
    here, there = (resolve_model(spec(path)) for path in (folder, tmp_path / "copy"))
    assert here.fingerprint.digest == there.fingerprint.digest
    assert (here.label, there.label) == ("tiny", "copy")
