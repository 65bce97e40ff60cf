"""Tokenizers decide embeddings: their files are in the fingerprint, are those that are read, and run no code."""

from __future__ import annotations

import gzip
import json
import os
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import Any

import huggingface_hub
import numpy as np
import open_clip
import PIL
import pytest
import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from koda.config import ModelSpec
from koda.errors import ModelError
from koda.models import load_encoder, resolve_model
from koda.models.libraries import versions_of

WORDS = ["a", "the", "red", "blue", "green", "circle", "square", "star"]
CONFIG: dict[str, Any] = {
    "embed_dim": 16,
    "custom_text": True,
    "vision_cfg": {"image_size": 16, "layers": 1, "width": 32, "patch_size": 8, "head_width": 16},
    "text_cfg": {"context_length": 8, "vocab_size": len(WORDS) + 3, "hf_tokenizer_name": "team/tokenizer", "width": 16,
                 "heads": 2, "layers": 1, "no_causal_mask": True, "pool_type": "last"},
}  # fmt: skip
STATED = {"precision": "fp32", "image_mean": [0.5] * 3, "image_std": [0.5] * 3}


def write_tokenizer(folder: Path, words: list[str] = WORDS) -> None:
    made = Tokenizer(models.WordLevel({w: i for i, w in enumerate(["<pad>", "<unk>", "</s>", *words])}, "<unk>"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 2)])
    special = {"pad_token": "<pad>", "unk_token": "<unk>", "eos_token": "</s>"}
    PreTrainedTokenizerFast(tokenizer_object=made, **special).save_pretrained(folder)


def write_config(folder: Path, config: dict[str, Any] = CONFIG, **text: object) -> None:
    config = {**config, "text_cfg": {**config["text_cfg"], **text}}
    raw = {"model_cfg": config, "preprocess_cfg": {"mean": [0.5] * 3, "std": [0.5] * 3}}
    (folder / "open_clip_config.json").write_text(json.dumps(raw))


def write_weights(path: Path, config: dict[str, Any] = CONFIG) -> None:
    torch.manual_seed(0)
    raw = {name: value for name, value in config.items() if name != "custom_text"}
    state = open_clip.CustomTextCLIP(**json.loads(json.dumps(raw))).state_dict()
    save_file({name: tensor.contiguous() for name, tensor in state.items()}, path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "model"
    made.mkdir()
    write_config(made)
    write_tokenizer(made)
    write_weights(made / "open_clip_model.safetensors")
    return made


def spec(folder: Path, **settings: object) -> ModelSpec:
    return ModelSpec.model_validate({"name": f"local-dir:{folder}", "precision": "fp32", **settings})


def digest(folder: Path) -> str:
    return resolve_model(spec(folder)).fingerprint.digest


def test_models_that_differ_in_their_tokenizer_are_two(folder: Path) -> None:
    first, texts = resolve_model(spec(folder)), ["a red circle", "the blue star"]
    before = load_encoder(first, "cpu").encode_texts(texts)
    write_tokenizer(folder, WORDS[::-1])
    second = resolve_model(spec(folder))
    assert second.fingerprint.weights == first.fingerprint.weights
    assert second.fingerprint.config_digest != first.fingerprint.config_digest
    assert second.fingerprint.digest != first.fingerprint.digest
    assert not np.allclose(load_encoder(second, "cpu").encode_texts(texts), before)


@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer_config.json", "special_tokens_map.json",
                                  "added_tokens.json", "vocab.json", "vocab.txt", "merges.txt", "spiece.model",
                                  "config.json"])  # fmt: skip
def test_every_file_of_a_tokenizer_counts(folder: Path, name: str) -> None:
    first = digest(folder)
    path = folder / name
    raw = json.loads(path.read_text()) if path.is_file() else {}
    path.write_text(json.dumps({**raw, "changed": True}))
    assert digest(folder) != first


def test_what_no_model_reads_does_not_count(folder: Path) -> None:
    first = digest(folder)
    for name in ("README.md", "trainer_state.json", "alignment.json", "train_log.json", "log.txt", ".gitattributes"):
        (folder / name).write_text("{}")
    raw = json.loads((folder / "tokenizer.json").read_text())
    (folder / "tokenizer.json").write_text(json.dumps(raw, indent=7))  # the same, written anew
    assert digest(folder) == first


def test_a_vocabulary_that_the_configuration_names_counts(tmp_path: Path) -> None:
    made = tmp_path / "model"
    made.mkdir()
    vocabulary = tmp_path / "bpe.txt.gz"
    vocabulary.write_bytes(gzip.compress(b"#version\n" + b"a b\n" * 48894))
    config = {**CONFIG, "text_cfg": {"context_length": 8, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1}}
    write_config(made, config, tokenizer_kwargs={"bpe_path": str(vocabulary)})
    write_weights(made / "open_clip_model.safetensors", config)
    first = resolve_model(spec(made))
    assert list(first.fingerprint.files) == ["tokenizer_kwargs.bpe_path"]
    vocabulary.write_bytes(gzip.compress(b"#version\n" + b"b a\n" * 48894))
    assert digest(made) != first.fingerprint.digest
    with pytest.raises(ModelError, match="changed between their digest and their loading"):
        load_encoder(first, "cpu")


def test_a_tokenizer_replaced_after_its_digest_is_not_used(folder: Path) -> None:
    model = resolve_model(spec(folder))
    write_tokenizer(folder, WORDS[::-1])
    with pytest.raises(ModelError, match="files of its tokenizer changed"):
        load_encoder(model, "cpu")


def test_versions_of_the_libraries_are_in_the_fingerprint(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = resolve_model(spec(folder)).fingerprint
    named = {"torch", "torchvision", "pillow", "open_clip_torch", "transformers", "tokenizers"}
    assert set(first.libraries) == named
    assert first.libraries["torch"] == ".".join(torch.__version__.split(".")[:2])
    monkeypatch.setattr("koda.models.libraries.version", lambda name: "99.1.2+cpu")
    other = resolve_model(spec(folder)).fingerprint
    assert (other.libraries["torch"], other.libraries["pillow"]) == ("99.1", "99.1.2")
    assert other.digest != first.digest


def test_another_distribution_of_a_package_is_told_by_its_module(monkeypatch: pytest.MonkeyPatch) -> None:
    """pillow-simd brings PIL and resizes otherwise."""

    def missing(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr("koda.models.libraries.version", missing)
    assert versions_of("PIL", "no_such_package") == {"pillow": PIL.__version__}


CODE = 'import pathlib\n\npathlib.Path("koda-was-here").touch()\n\n\nclass Theirs:\n    pass\n'


@pytest.mark.parametrize("where", ["tokenizer_kwargs", "tokenizer_config.json", "auto_map", "a config of theirs"])
def test_code_that_comes_with_a_model_does_not_run(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (folder / "theirs.py").write_text(CODE)
    mapped = {"auto_map": {"AutoTokenizer": ["theirs.Theirs", None]}}
    if where == "tokenizer_kwargs":
        write_config(folder, tokenizer_kwargs={"trust_remote_code": True})
    if where == "a config of theirs":
        (folder / "config.json").write_text(json.dumps({"model_type": "theirs", **mapped}))
    else:
        path = folder / "tokenizer_config.json"
        trust = {"trust_remote_code": True} if where == "tokenizer_config.json" else {}
        path.write_text(json.dumps({**json.loads(path.read_text()), **mapped, **trust}))
    with pytest.raises(ModelError, match=r"trust_remote_code|code that comes with the model for its AutoTokenizer"):
        resolve_model(spec(folder))
    assert not (tmp_path / "koda-was-here").exists()


def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, repository: str) -> Path:
    """Lay out the hub's cache for a repository, without a connection; return the folder of its files."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    place = tmp_path / "hub" / f"models--{repository.replace('/', '--')}"
    snapshot = place / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    (place / "refs").mkdir()
    (place / "refs" / "main").write_text("0" * 40)
    return snapshot


def custom(tmp_path: Path, config: dict[str, Any] = CONFIG) -> ModelSpec:
    """An architecture of a team's own, as open_clip_train takes it, with a checkpoint of its training."""
    (tmp_path / "configs").mkdir(exist_ok=True)
    (tmp_path / "configs" / "emojiclip.json").write_text(json.dumps(config))
    write_weights(tmp_path / "epoch_5.safetensors")
    stated = {
        "config": str(tmp_path / "configs" / "emojiclip.json"),
        "pretrained": str(tmp_path / "epoch_5.safetensors"),
    }
    return ModelSpec.model_validate({"name": "emojiclip", **stated, **STATED})


def test_a_tokenizer_of_the_hub_is_digested_and_loaded_from_the_same_files(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as offline:
        cache(offline, tmp_path / "empty", "other/repository")
        with pytest.raises(ModelError, match=r"(?s)tokenizer of emojiclip \(team/tokenizer\) cannot be fetched"):
            resolve_model(custom(tmp_path))
    snapshot = cache(monkeypatch, tmp_path, "team/tokenizer")
    write_tokenizer(snapshot)
    model = resolve_model(custom(tmp_path))
    assert model.fingerprint.digest == digest(folder)
    texts = ["a red circle", "the blue star"]
    assert np.array_equal(
        load_encoder(model, "cpu").encode_texts(texts),
        load_encoder(resolve_model(spec(folder)), "cpu").encode_texts(texts),
    )


@pytest.mark.parametrize("beside", ["the configuration", "its target", "a folder that it names"])
def test_an_architecture_of_ones_own_finds_its_tokenizer_beside_it(folder: Path, tmp_path: Path, beside: str) -> None:
    model = custom(tmp_path)
    if beside == "a folder that it names":
        model = custom(tmp_path, {**CONFIG, "text_cfg": {**CONFIG["text_cfg"], "hf_tokenizer_name": "words"}})
        write_tokenizer(tmp_path / "configs" / "words")
    else:
        write_tokenizer(tmp_path / "configs")
    if beside == "its target":
        (tmp_path / "linked").mkdir()
        (tmp_path / "linked" / "arch.json").symlink_to(tmp_path / "configs" / "emojiclip.json")
        model = model.model_copy(update={"config": str(tmp_path / "linked" / "arch.json")})
    found, expected = resolve_model(model).fingerprint, resolve_model(spec(folder)).fingerprint
    assert (found.files, found.weights) == (expected.files, expected.weights)
    load_encoder(resolve_model(model), "cpu")


def test_the_configuration_of_a_text_tower_counts_and_brings_no_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tower = tmp_path / "tower"
    tower.mkdir()
    settings = {"model_type": "roberta", "vocab_size": 20, "hidden_size": 16, "num_hidden_layers": 1, "pad_token_id": 1,
                "num_attention_heads": 2, "intermediate_size": 16, "max_position_embeddings": 12}  # fmt: skip
    (tower / "config.json").write_text(json.dumps(settings))
    write_tokenizer(tower)
    text = {"hf_model_name": str(tower), "hf_tokenizer_name": str(tower), "context_length": 8, "hf_proj_type": "linear",
            "hf_pooler_type": "mean_pooler"}  # fmt: skip
    config = {**CONFIG, "text_cfg": text}
    made = tmp_path / "model"
    made.mkdir()
    write_config(made, config)
    write_tokenizer(made)
    raw = {name: value for name, value in config.items() if name != "custom_text"}
    state = open_clip.CustomTextCLIP(
        **json.loads(json.dumps(raw | {"text_cfg": {**text, "hf_model_pretrained": False}}))
    )
    save_file({n: t.contiguous() for n, t in state.state_dict().items()}, made / "open_clip_model.safetensors")
    first = resolve_model(spec(made))
    assert "text_tower/config.json" in first.fingerprint.files
    load_encoder(first, "cpu")
    (tower / "config.json").write_text(json.dumps({**settings, "hidden_act": "relu"}))
    assert digest(made) != first.fingerprint.digest
    (tower / "config.json").write_text(json.dumps({**settings, "auto_map": {"AutoConfig": "theirs.Config"}}))
    with pytest.raises(ModelError, match="code that comes with the model for its AutoConfig"):
        resolve_model(spec(made))


def test_a_pipe_among_the_files_of_a_tokenizer_is_never_opened(folder: Path) -> None:
    (folder / "merges.txt").unlink(missing_ok=True)
    os.mkfifo(folder / "merges.txt")
    with pytest.raises(ModelError, match=r"merges\.txt is a named pipe"):
        resolve_model(spec(folder))


def test_an_architecture_of_ones_own_needs_a_checkpoint_and_its_preprocessing(tmp_path: Path) -> None:
    model = custom(tmp_path)
    with pytest.raises(ModelError, match=r"(?s)emojiclip has no weights.*runs/epoch_5\.pt"):
        resolve_model(model.model_copy(update={"pretrained": None}))
    with pytest.raises(ModelError, match="how its images were normalised"):
        resolve_model(model.model_copy(update={"image_mean": None, "image_std": None}))
    with pytest.raises(ModelError, match="config is for an open_clip architecture"):
        resolve_model(model.model_copy(update={"name": f"local-dir:{tmp_path}"}))
    with pytest.raises(ModelError, match=r"The configuration .* does not exist"):
        resolve_model(model.model_copy(update={"config": str(tmp_path / "no.json")}))
    for text in ("[" * 100_000, "[]", '{"embed_dim": 3}', '{"embed_dim": 3, "vision_cfg": [], "text_cfg": 1}'):
        (tmp_path / "configs" / "emojiclip.json").write_text(text)
        with pytest.raises(ModelError, match="is not an open_clip configuration"):
            resolve_model(model)
