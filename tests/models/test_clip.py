"""Models: found, fingerprinted, loaded, and refused in words; on small checkpoints made here."""

from __future__ import annotations

import json
import os
import pickle
import shutil
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from koda.config import ModelSpec
from koda.digest import digest_weights
from koda.errors import KodaError, ModelError
from koda.models import load_encoder, resolve_model
from tests.tiny import write_tiny_model


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_tiny_model(tmp_path / "tiny", seed=0)


def spec(folder: Path, **settings: object) -> ModelSpec:
    return ModelSpec.model_validate({"name": f"local-dir:{folder}", **settings})


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


def test_long_captions_are_counted(folder: Path) -> None:
    encoder = load_encoder(resolve_model(spec(folder)), "cpu")
    assert encoder.context_length == 16
    assert encoder.count_long(["short", "", "very " * 14, "very " * 15, "very " * 40]) == 2


def test_the_weights_digest_is_of_the_tensors_not_of_the_file(folder: Path, tmp_path: Path) -> None:
    file = folder / "open_clip_model.safetensors"
    state = load_file(file)
    digest = digest_weights(file)
    torch.save(state, tmp_path / "a.pt")
    torch.save({"epoch": 3, "state_dict": {f"module.{k}": v for k, v in reversed(state.items())}}, tmp_path / "b.pt")
    save_file(state, tmp_path / "c.safetensors", metadata={"made": "today"})
    assert {digest_weights(tmp_path / name) for name in ("a.pt", "b.pt", "c.safetensors")} == {digest}
    state["logit_scale"] = state["logit_scale"] + 1
    save_file(state, tmp_path / "d.safetensors")
    assert digest_weights(tmp_path / "d.safetensors") != digest


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


class Malicious:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("touch koda-was-here",)


def test_a_malicious_pickle_is_refused_and_does_not_run(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (folder / "open_clip_model.safetensors").unlink()
    torch.save({"state_dict": {"x": Malicious()}}, folder / "model.pt")
    with pytest.raises(ModelError, match="could run code"):
        resolve_model(spec(folder))
    (folder / "model.pt").write_bytes(pickle.dumps(Malicious()))
    with pytest.raises(KodaError):
        resolve_model(spec(folder))
    assert not (tmp_path / "koda-was-here").exists()


def test_a_copied_folder_is_the_same_model(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "copy")
    here, there = (resolve_model(spec(path)) for path in (folder, tmp_path / "copy"))
    assert here.fingerprint.digest == there.fingerprint.digest
    assert (here.label, there.label) == ("tiny", "copy")
