"""Checkpoints as training leaves them: each shape is loaded as the same model, or refused for its real reason."""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import timm
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file

from koda.config import ModelSpec
from koda.errors import ModelError
from koda.models import load_encoder, resolve_model, weights
from koda.models.weights import look_at_weights, read_weights
from tests.tiny import write_tiny_model

State = dict[str, torch.Tensor]
STATED = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3, "precision": "fp32"}


def prefixed(prefix: str, state: State) -> State:
    return {prefix + name: tensor for name, tensor in state.items()}


def optimizer_of(state: State) -> dict[str, Any]:
    """The state of an optimiser with one of numpy's numbers in it, as schedulers leave them."""
    return {"state": {0: {"exp_avg": torch.zeros(3)}}, "param_groups": [{"lr": np.float64(1e-3), "params": [0]}]}


SHAPES: dict[str, Callable[[State], Any]] = {
    "the state dict alone": lambda s: s,
    "state_dict of open_clip_train": lambda s: {"epoch": 5, "name": "run", "state_dict": prefixed("module.", s),
                                                "optimizer": optimizer_of(s)},
    "model": lambda s: {"model": s, "epoch": 3},
    "ema": lambda s: {"ema": s, "epoch": 3},
    "model_state_dict": lambda s: {"model_state_dict": s, "optimizer_state_dict": optimizer_of(s), "loss": 0.3},
    "module of DeepSpeed": lambda s: {"module": s, "optimizer": optimizer_of(s), "ds_version": "0.1"},
    "a key of their own": lambda s: {"clip": s, "optimizer": optimizer_of(s), "step": torch.tensor(7)},
    "two levels": lambda s: {"model": {"state_dict": s}, "epoch": 3},
    "an exponential average": lambda s: {"ema": {"n_averaged": torch.tensor(9), **prefixed("module.", s)}},
    "an average and its decay": lambda s: {"ema": {"decay": 0.999, "shadow": s}},
    "DDP": lambda s: prefixed("module.", s),
    "compiled": lambda s: prefixed("_orig_mod.", s),
    "compiled in DDP": lambda s: {"state_dict": prefixed("module._orig_mod.", s)},
    "DDP, compiled": lambda s: prefixed("_orig_mod.module.", s),
    "a compiled tower": lambda s: {n.replace("visual.", "visual._orig_mod."): t for n, t in s.items()},
    "FSDP": lambda s: prefixed("_fsdp_wrapped_module.", s),
    "Lightning": lambda s: {"state_dict": prefixed("model.", s), "callbacks": {}, "hyper_parameters": {"lr": 0.1}},
    "an argparse namespace": lambda s: {"state_dict": s, "args": argparse.Namespace(lr=0.1, out=pathlib.Path("/x"))},
    "a plain namespace": lambda s: {"model": s, "args": types.SimpleNamespace(lr=np.float32(0.1))},
    "the state of random numbers": lambda s: {"model": s, "rng": {"numpy": np.random.default_rng(0).random(3)}},
    "numpy's scalars": lambda s: {"model": s, "best": np.float64(0.7), "steps": np.int64(3), "ok": np.bool_(True)},
    "notes among the tensors": lambda s: {**s, "input_resolution": 16, "note": None},
}  # fmt: skip


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("models") / "tiny", seed=0)


@pytest.fixture(scope="module")
def state(tiny: Path) -> State:
    return load_file(tiny / "open_clip_model.safetensors")


@pytest.fixture
def folder(tiny: Path, tmp_path: Path) -> Path:
    """A model folder that has no weights yet."""
    made = tmp_path / "model"
    made.mkdir()
    (made / "open_clip_config.json").write_bytes((tiny / "open_clip_config.json").read_bytes())
    return made


def spec(folder: Path, **settings: object) -> ModelSpec:
    return ModelSpec.model_validate({"name": f"local-dir:{folder}", "precision": "fp32", **settings})


def embeddings(model: ModelSpec) -> np.ndarray[Any, Any]:
    encoder = load_encoder(resolve_model(model, "cpu"), "cpu")
    pixels = torch.linspace(-1, 1, 3 * 16 * 16).view(1, 3, 16, 16)
    return np.concatenate([encoder.encode_images(pixels), encoder.encode_texts(["a red square"])])


@pytest.mark.parametrize("shape", SHAPES)
def test_what_a_training_loop_saved_is_the_same_model(tiny: Path, state: State, folder: Path, shape: str) -> None:
    torch.save(SHAPES[shape](state), folder / "last.pt")
    assert resolve_model(spec(folder)).fingerprint.digest == resolve_model(spec(tiny)).fingerprint.digest
    assert np.array_equal(embeddings(spec(folder)), embeddings(spec(tiny)))


def test_the_key_that_was_taken_is_shown(state: State, folder: Path) -> None:
    torch.save({"model": {"state_dict": state}, "epoch": 3}, folder / "last.pt")
    assert resolve_model(spec(folder)).weights_file == "last.pt [model.state_dict]"


def test_checkpoints_of_older_and_newer_versions_read(tiny: Path, state: State, folder: Path) -> None:
    """NumPy 1 and Python 3.13 keep their classes elsewhere; torch 1.5 and before wrote no archives."""
    beside = {"best": np.float64(0.7), "noise": np.arange(3), "out": pathlib.Path("/x")}
    torch.save({"state_dict": state, **beside}, folder / "last.pt", _use_new_zipfile_serialization=False)
    data = (folder / "last.pt").read_bytes()
    for here, there in (
        (b"numpy._core.multiarray", b"numpy.core.multiarray"),
        (b"cpathlib\n", b"cpathlib._local\n"),
    ):
        assert here in data or there in data
        data = data.replace(here, there)
    (folder / "last.pt").write_bytes(data)
    assert resolve_model(spec(folder)).fingerprint.digest == resolve_model(spec(tiny)).fingerprint.digest


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "model."])
def test_prefixes_in_safetensors_are_understood(tiny: Path, state: State, folder: Path, prefix: str) -> None:
    save_file(prefixed(prefix, state), folder / "model.safetensors", metadata={"format": "pt", "step": "3"})
    assert resolve_model(spec(folder)).fingerprint.digest == resolve_model(spec(tiny)).fingerprint.digest
    assert np.array_equal(embeddings(spec(folder)), embeddings(spec(tiny)))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
def test_weights_of_another_precision_load(tiny: Path, state: State, folder: Path, dtype: Any, suffix: str) -> None:
    made = {name: tensor.to(dtype) for name, tensor in state.items()}
    if suffix == ".pt":
        torch.save(made, folder / "weights.pt")
    else:
        save_file(made, folder / "weights.safetensors")
    cosines = (embeddings(spec(folder)) * embeddings(spec(tiny))).sum(axis=1)
    assert (cosines > 0.999).all()
    assert resolve_model(spec(folder)).fingerprint.digest != resolve_model(spec(tiny)).fingerprint.digest


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_positions_of_another_size_are_resized_in_full_precision(state: State, folder: Path, precision: str) -> None:
    def resized(dtype: torch.dtype) -> State:
        made = {name: tensor.to(dtype) for name, tensor in state.items()}
        grid = torch.linspace(-1, 1, 9 * 32, dtype=torch.float32).view(9, 32)
        return made | {"visual.positional_embedding": torch.cat([grid[:1], grid]).half().to(dtype)}

    found = []
    for dtype in (torch.float16, torch.float32):
        torch.save(resized(dtype), folder / "weights.pt")
        encoder = load_encoder(resolve_model(spec(folder, precision=precision)), "cpu")
        found.append(encoder.model.visual.positional_embedding)
    assert found[0].shape == (5, 32)
    assert torch.equal(*found)


def test_the_bias_of_a_siglip_loss_decides_no_embedding(tiny: Path, state: State, folder: Path) -> None:
    torch.save({**state, "logit_bias": torch.tensor(-10.0)}, folder / "weights.pt")
    assert np.array_equal(embeddings(spec(folder)), embeddings(spec(tiny)))
    config = json.loads((folder / "open_clip_config.json").read_text())
    config["model_cfg"]["init_logit_bias"] = -10
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    torch.save({**state, "logit_scale": state["logit_scale"].reshape(1)}, folder / "weights.pt")
    assert np.array_equal(embeddings(spec(folder)), embeddings(spec(tiny)))


@pytest.mark.filterwarnings("ignore")
def test_the_advice_on_a_torchscript_archive_leads_to_a_model(tiny: Path, folder: Path, tmp_path: Path) -> None:
    """OpenAI's archives hold three sizes among their buffers, which open_clip leaves out too."""
    model = open_clip.create_model(f"local-dir:{tiny}").eval()
    inputs = torch.zeros(1, 3, 16, 16), torch.zeros(1, 16, dtype=torch.long)
    traced = torch.jit.trace(model, inputs, check_trace=False)
    traced.half().save(str(tmp_path / "ViT.pt"))
    archived = torch.jit.load(tmp_path / "ViT.pt", map_location="cpu").state_dict()
    sizes = {name: torch.tensor(16) for name in ("input_resolution", "context_length", "vocab_size")}
    torch.save({**archived, **sizes}, folder / "weights.pt")
    assert ((embeddings(spec(folder)) * embeddings(spec(tiny))).sum(axis=1) > 0.999).all()


def test_a_merged_adapter_loads_and_one_that_is_not_is_refused(state: State, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = timm.create_model("test_vit", num_classes=3)
    adapted = get_peft_model(model, LoraConfig(r=2, target_modules=["qkv"], init_lora_weights=False))
    stated = {"name": "timm:test_vit", "pretrained": str(tmp_path / "lora.pt"), **STATED}
    torch.save(adapted.state_dict(), tmp_path / "lora.pt")
    with pytest.raises(ModelError, match=r"(?s)LoRA adapter that is not merged.*merge_and_unload"):
        resolve_model(ModelSpec.model_validate(stated))
    torch.save(adapted.merge_and_unload().state_dict(), tmp_path / "lora.pt")
    assert load_encoder(resolve_model(ModelSpec.model_validate(stated), "cpu"), "cpu").dims["image"] > 0


def test_timm_takes_averaged_weights_first_as_timm_does(tmp_path: Path) -> None:
    torch.manual_seed(0)
    last, average = (timm.create_model("test_vit", num_classes=3).state_dict() for _ in range(2))
    args = argparse.Namespace(lr=0.1)
    file = tmp_path / "model_best.pth.tar"
    torch.save({"epoch": 3, "state_dict": last, "state_dict_ema": average, "args": args, "metric": 71.0}, file)
    model = resolve_model(ModelSpec.model_validate({"name": "timm:test_vit", "pretrained": str(file), **STATED}))
    assert model.weights_file == "model_best.pth.tar [state_dict_ema]"
    torch.save(average, tmp_path / "average.pt")
    assert model.fingerprint.weights == look_at_weights(tmp_path / "average.pt").digest
    assert timm.models.load_state_dict(str(file)).keys() == average.keys()
    load_encoder(model, "cpu")


def test_of_several_state_dicts_none_is_guessed(state: State, folder: Path) -> None:
    torch.save({"student": state, "teacher": state, "epoch": 1}, folder / "last.pt")
    with pytest.raises(ModelError, match=r"(?s)holds 2 state dicts: student, teacher.*torch\.save"):
        resolve_model(spec(folder))
    torch.save({"model": state, "ema": state}, folder / "last.pt")
    with pytest.raises(ModelError, match="holds 2 state dicts: model, ema"):
        resolve_model(spec(folder))
    torch.save({"state_dict": state, "ema": state}, folder / "last.pt")  # of which open_clip takes the first
    assert resolve_model(spec(folder)).weights_file == "last.pt [state_dict]"


class Net(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.weight


def torchscript(path: Path) -> None:
    torch.jit.trace(Net(), torch.ones(2)).save(str(path))


REFUSED: dict[str, tuple[Callable[[Path], Any], str]] = {
    "a program": (torchscript, r"(?s)is a TorchScript archive.*torch\.jit\.load\('last\.pt'"),
    "a whole model": (lambda p: torch.save(Net(), p), r"could run code\. It asks for .*test_checkpoints\.Net"),
    "an optimiser": (lambda p: torch.save(optimizer_of({}), p), "the state of an optimiser"),
    "nothing": (lambda p: torch.save({}, p), "holds no state dict, but nothing"),
    "no tensors": (lambda p: torch.save({"epoch": 3, "args": {"a": 1}}, p), "but the keys 'epoch', 'args'"),
    "a list": (lambda p: torch.save([torch.ones(2)], p), "holds no state dict, but a list"),
    "an empty file": (lambda p: p.write_bytes(b""), "the file is empty"),
    "a pointer of Git LFS": (lambda p: p.write_bytes(b"version https://git-lfs.github.com/spec/v1\noid 1\n"),
                             "(?s)pointer of Git LFS.*git lfs pull"),
    "a web page": (lambda p: p.write_bytes(b"<!DOCTYPE html><html></html>"), "it is a web page"),
    "arrays of NumPy": (lambda p: np.savez(p.open("wb"), a=np.ones(2)), "an archive of NumPy arrays"),
    "noise": (lambda p: p.write_bytes(b"\x93" * 500), "it is no checkpoint of PyTorch"),
    "half a file": (lambda p: (torch.save({"a": torch.ones(99)}, p), p.write_bytes(p.read_bytes()[:700])),
                    "cannot be read: .*"),
    "a pipe": (lambda p: os.mkfifo(p), "is a named pipe, not a file"),
    "quantised": (lambda p: torch.save({"a": torch.quantize_per_tensor(torch.ones(2), 0.1, 0, torch.qint8)}, p),
                  "quantised"),
}  # fmt: skip


@pytest.mark.parametrize("kind", REFUSED)
@pytest.mark.filterwarnings("ignore")
def test_what_is_refused_is_refused_for_its_real_reason(tmp_path: Path, kind: str) -> None:
    write, words = REFUSED[kind]
    write(tmp_path / "last.pt")
    stated = {"pretrained": str(tmp_path / "last.pt"), **STATED}
    for name in ("ViT-B-32", "timm:resnet10t"):
        with pytest.raises(ModelError, match=words):
            resolve_model(ModelSpec.model_validate({"name": name, **stated}))


def test_whole_numbers_in_place_of_weights_are_quantised_and_refused(state: State, folder: Path) -> None:
    save_file(state | {"visual.proj": torch.ones(32, 16, dtype=torch.int8)}, folder / "model.safetensors")
    with pytest.raises(ModelError, match=r"visual\.proj' as int8: they are quantised"):
        load_encoder(resolve_model(spec(folder)), "cpu")


def test_a_header_of_brackets_is_no_crash(folder: Path) -> None:
    header = b"[" * 100_000
    (folder / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)
    with pytest.raises(ModelError, match="cannot be read"):
        resolve_model(spec(folder))


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
def test_weights_replaced_after_their_digest_are_not_loaded(state: State, folder: Path, suffix: str) -> None:
    def write(changed: State) -> None:
        file = folder / f"weights{suffix}"
        torch.save(changed, file) if suffix == ".pt" else save_file(changed, file)

    write(state)
    os.utime(folder / f"weights{suffix}", (0, 0))
    model = resolve_model(spec(folder))
    write({**state, "visual.proj": state["visual.proj"] * 2})
    os.utime(folder / f"weights{suffix}", (0, 0))  # as cp -p and rsync -t keep it
    with pytest.raises(ModelError, match="changed between their digest and their loading"):
        load_encoder(model, "cpu")
    write(state)
    load_encoder(model, "cpu")


@pytest.mark.parametrize("shards", [1, 2])
def test_weights_that_stood_still_are_digested_once_and_an_index_that_changed_is_read_again(
    state: State, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shards: int
) -> None:
    names = sorted(state)
    files = [tmp_path / f"part{number}.safetensors" for number in range(shards)]
    for number, file in enumerate(files):
        save_file({name: state[name] for name in names[number::shards]}, file)
    index = tmp_path / "w.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {name: files[i % shards].name for i, name in enumerate(names)}}))
    path = files[0] if shards == 1 else index
    digested: list[int] = []
    digest = weights._digest_tensors
    monkeypatch.setattr(weights, "_digest_tensors", lambda tensors: (digested.append(1), digest(tensors))[1])
    monkeypatch.setattr(weights, "_SETTLED_NS", 0)
    first = look_at_weights(path)
    assert look_at_weights(path) == first and len(digested) == 1
    read_weights(path, first.digest)
    assert len(digested) == 1
    os.utime(files[0])
    assert look_at_weights(path) == first and len(digested) == 2
    if path == index:
        index.write_text(index.read_text().replace(names[0], "another"))
        with pytest.raises(ModelError, match="lack 1 tensors"):
            look_at_weights(path)


def test_the_architecture_that_was_digested_is_loaded(tiny: Path, state: State, folder: Path) -> None:
    """The configuration is not read a second time: what was fingerprinted is what embeds."""
    save_file(state, folder / "model.safetensors")
    model = resolve_model(spec(folder))
    config = json.loads((folder / "open_clip_config.json").read_text())
    config["model_cfg"]["quick_gelu"] = True
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    pixels = torch.linspace(-1, 1, 3 * 16 * 16).view(1, 3, 16, 16)
    expected = load_encoder(resolve_model(spec(tiny)), "cpu").encode_images(pixels)
    assert np.array_equal(load_encoder(model, "cpu").encode_images(pixels), expected)
