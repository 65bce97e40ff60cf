"""Which file of a folder holds the weights: open_clip's choice, whole where they are sharded, and never a guess."""

from __future__ import annotations

import json
import os
from pathlib import Path

import open_clip
import pytest
import torch
from open_clip.factory import _find_checkpoint_in_dir
from safetensors.torch import load_file, save_file

from koda.config import ModelSpec, check_config
from koda.errors import ModelError
from koda.models import load_encoder, resolve_model
from koda.models.inspection import look_at_models
from koda.models.weight_files import find_weights
from koda.models.weights import look_at_weights
from tests.tiny import write_tiny_model

PREFERRED = [
    "open_clip_model.safetensors",
    "open_clip_pytorch_model.safetensors",
    "open_clip_pytorch_model.bin",
    "open_clip_pytorch_model.pth",
    "model.safetensors",
    "pytorch_model.bin",
    "pytorch_model.pth",
    "model.pth",
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_tiny_model(tmp_path / "tiny", seed=0)


def spec(folder: Path, **settings: object) -> ModelSpec:
    return ModelSpec.model_validate({"name": f"local-dir:{folder}", "precision": "fp32", **settings})


def shard(folder: Path, suffix: str = ".safetensors", n: int = 2) -> Path:
    """Put the weights of a folder into several files with an index, as save_pretrained does; return the index."""
    whole = folder / "open_clip_model.safetensors"
    state = load_file(whole)
    whole.unlink()
    stem = "model" if suffix == ".safetensors" else "pytorch_model"
    places = {}
    for number in range(n):
        name = f"{stem}-{number + 1:05d}-of-{n:05d}{suffix}"
        part = dict(sorted(state.items())[number::n])
        places |= dict.fromkeys(part, name)
        torch.save(part, folder / name) if suffix == ".bin" else save_file(part, folder / name)
    index = folder / f"{stem}{suffix}.index.json"
    index.write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": places}), encoding="utf-8")
    return index


def test_the_order_is_that_of_open_clip(tmp_path: Path) -> None:
    for name in [*PREFERRED, "a.safetensors", "b.bin"]:
        (tmp_path / name).write_bytes(b"x")
    for name in PREFERRED:
        assert find_weights(tmp_path) == Path(_find_checkpoint_in_dir(tmp_path) or "") == tmp_path / name
        (tmp_path / name).unlink()


def test_several_candidates_are_listed_and_none_is_taken(folder: Path) -> None:
    state = load_file(folder / "open_clip_model.safetensors")
    (folder / "open_clip_model.safetensors").unlink()
    for epoch in (1, 2, 10):
        torch.save({"epoch": epoch, "state_dict": state}, folder / f"epoch_{epoch}.pt")
    with pytest.raises(ModelError, match=r"(?s)holds 3 files .*epoch_1\.pt, epoch_10\.pt, epoch_2\.pt.*`pretrained: "):
        resolve_model(spec(folder))
    model = resolve_model(spec(folder, pretrained=str(folder / "epoch_10.pt")))
    assert model.weights_file == "epoch_10.pt [state_dict]"
    assert load_encoder(model, "cpu").dims == {"image": 16, "text": 16}


def test_what_a_trainer_leaves_beside_the_weights_is_no_candidate(folder: Path) -> None:
    whole = folder / "open_clip_model.safetensors"
    whole.rename(folder / "weights.safetensors")
    beside = ["optimizer.pt", "scheduler.pt", "scaler.pt", "rng_state.pth", "rng_state_0.pth", "training_args.bin",
              "random_states_0.pkl", "zero_pp_rank_0_mp_rank_00_optim_states.pt", ".hidden.pt"]  # fmt: skip
    for name in beside:
        torch.save({"state": {}, "param_groups": []}, folder / name)
    assert resolve_model(spec(folder)).weights_file == "weights.safetensors"


@pytest.mark.parametrize("suffix", [".safetensors", ".bin"])
def test_sharded_weights_are_read_whole(folder: Path, suffix: str) -> None:
    first = resolve_model(spec(folder)).fingerprint.digest
    index = shard(folder, suffix)
    model = resolve_model(spec(folder))
    assert (model.checkpoint, model.fingerprint.digest) == (index, first)
    load_encoder(model, "cpu")
    stated = resolve_model(spec(folder, pretrained=str(index)))
    assert stated.fingerprint.digest == first
    shards = sorted(folder.glob(f"*-of-*{suffix}"))
    with pytest.raises(ModelError, match=rf"(?s)one of 2 files.*{index.name}"):
        resolve_model(spec(folder, pretrained=str(shards[0])))
    shards[1].unlink()
    with pytest.raises(ModelError, match=r"that .*index\.json lists.*00002-of-00002.* does not exist"):
        resolve_model(spec(folder))


def test_a_distributed_checkpoint_is_refused_with_the_command_that_joins_it(folder: Path) -> None:
    (folder / "open_clip_model.safetensors").rename(folder / "__0_0.distcp")
    with pytest.raises(ModelError, match=r"(?s)in pieces.*dcp_to_torch"):
        resolve_model(spec(folder))


def test_shards_without_their_index_are_refused(folder: Path) -> None:
    shard(folder).unlink()
    with pytest.raises(ModelError, match="holds 2 files that may be the weights"):
        resolve_model(spec(folder))
    (folder / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(ModelError, match=r"(?s)one of 2 files.*model\.safetensors\.index\.json"):
        resolve_model(spec(folder))


def test_an_index_that_names_more_than_there_is_or_lies_elsewhere_is_refused(folder: Path) -> None:
    index = shard(folder)
    raw = json.loads(index.read_text())
    for changed, words in (
        (
            {**raw["weight_map"], "no.such": "model-00001-of-00002.safetensors"},
            "lack 1 tensors.*'no.such'",
        ),
        ({"a": "../elsewhere.safetensors"}, "does not name files beside it"),
        ({}, "does not name files beside it"),
    ):
        index.write_text(json.dumps({"weight_map": changed}))
        with pytest.raises(ModelError, match=words):
            resolve_model(spec(folder))


def test_a_folder_of_weights_may_be_the_checkpoint(folder: Path, tmp_path: Path) -> None:
    other = write_tiny_model(tmp_path / "checkpoint-500", seed=1)
    (other / "open_clip_model.safetensors").rename(other / "model.safetensors")
    (other / "open_clip_config.json").unlink()
    torch.save({}, other / "optimizer.pt")
    model = resolve_model(spec(folder, pretrained=str(other)))
    assert model.fingerprint.weights == look_at_weights(other / "model.safetensors").digest


def test_a_folder_with_a_checkpoint_takes_no_tag(folder: Path) -> None:
    with pytest.raises(ModelError, match="has its own weights, and there is no checkpoint file 'openai'"):
        resolve_model(spec(folder, pretrained="openai"))


def test_weights_behind_links_are_found_as_the_cache_of_the_hub_lays_them_out(folder: Path, tmp_path: Path) -> None:
    """The names are those of the links; what they lead to has neither a suffix nor neighbours."""
    first = resolve_model(spec(folder)).fingerprint.digest
    shard(folder)
    blobs, snapshot = tmp_path / "blobs", tmp_path / "snapshots" / "main"
    blobs.mkdir()
    snapshot.mkdir(parents=True)
    for number, path in enumerate(sorted(folder.iterdir())):
        path.rename(blobs / f"9f86d08{number}")
        (snapshot / path.name).symlink_to(f"../../blobs/9f86d08{number}")
    linked = tmp_path / "latest"
    linked.symlink_to(snapshot)
    for place in (snapshot, linked):
        model = resolve_model(spec(place))
        assert model.fingerprint.digest == first
        load_encoder(model, "cpu")
    index = tmp_path / "elsewhere.safetensors.index.json"
    index.symlink_to(snapshot / "model.safetensors.index.json")  # which is itself a link, to where no shard is
    assert resolve_model(spec(snapshot, pretrained=str(index))).fingerprint.digest == first


def test_an_index_behind_a_link_has_its_shards_beside_its_target(folder: Path, tmp_path: Path) -> None:
    first = resolve_model(spec(folder)).fingerprint.digest
    link = tmp_path / "best.safetensors.index.json"
    link.symlink_to(shard(folder))
    assert resolve_model(spec(folder, pretrained=str(link))).fingerprint.digest == first


def test_weights_without_a_suffix_are_told_by_their_content(folder: Path, tmp_path: Path) -> None:
    first = resolve_model(spec(folder)).fingerprint.digest
    blob = tmp_path / "9f86d081"
    (folder / "open_clip_model.safetensors").rename(blob)
    assert resolve_model(spec(folder, pretrained=str(blob))).fingerprint.digest == first
    torch.save(load_file(blob), tmp_path / "e3b0c442")
    assert resolve_model(spec(folder, pretrained=str(tmp_path / "e3b0c442"))).fingerprint.digest == first


@pytest.mark.parametrize("name", ["open_clip_model.safetensors", "epoch_5.pt"])
def test_weights_that_were_not_fetched_are_missed_by_name(folder: Path, name: str) -> None:
    """DVC and git-annex leave a link to what is not there yet; another file is not taken in its place."""
    (folder / "open_clip_model.safetensors").unlink()
    (folder / name).symlink_to("../.dvc/cache/9f/86d081")
    with pytest.raises(ModelError, match=rf"{name} is a link to \.\./\.dvc/cache/9f/86d081, which is not there"):
        resolve_model(spec(folder))
    (folder / name).unlink()
    os.mkfifo(folder / name)
    with pytest.raises(ModelError, match=rf"{name} is a named pipe, not a file"):
        resolve_model(spec(folder))


def test_what_is_no_file_is_never_opened(folder: Path) -> None:
    for name in ("open_clip_config.json", "vocab.json"):
        path = folder / name
        path.unlink(missing_ok=True)
        os.mkfifo(path)
        if name == "vocab.json":
            path = folder / "open_clip_config.json"
            raw = {"model_cfg": open_clip.get_model_config("ViT-B-16-SigLIP"), "preprocess_cfg": {"mean": [0.5] * 3}}
            path.unlink()
            path.write_text(json.dumps(raw))
        with pytest.raises(ModelError, match="is a named pipe, not a file"):
            resolve_model(spec(folder))
    link = folder / "last.pt"
    link.symlink_to("epoch_9.pt")
    with pytest.raises(ModelError, match=r"is a link to epoch_9\.pt, which is not there"):
        resolve_model(ModelSpec(name="ViT-B-32", pretrained=str(link)))


def test_paths_of_a_model_are_relative_to_the_configuration_and_a_tag_is_no_path(tmp_path: Path) -> None:
    (tmp_path / "openai").mkdir()
    (tmp_path / "checkpoint").write_bytes(b"x")
    raw = {
        "baseline": {"name": "emojiclip", "config": "arch.json", "pretrained": "runs/epoch_5"},
        "candidate": {"name": "ViT-B-32", "pretrained": "openai"},
        "data": {"path": "pairs.tsv"},
    }
    config = check_config(raw, "here", tmp_path)
    assert config.baseline.config == str(tmp_path / "arch.json")
    assert config.baseline.pretrained == str(tmp_path / "runs" / "epoch_5")
    assert config.candidate.pretrained == "openai"
    raw["candidate"] = {"name": "ViT-B-32", "pretrained": "checkpoint"}
    assert check_config(raw, "here", tmp_path).candidate.pretrained == str(tmp_path / "checkpoint")


def test_a_look_at_the_models_says_which_file_is_audited(folder: Path, tmp_path: Path) -> None:
    torch.save({"model": load_file(folder / "open_clip_model.safetensors")}, tmp_path / "last.pt")
    raw = {
        "baseline": {"name": f"local-dir:{folder}"},
        "candidate": {"name": f"local-dir:{folder}", "pretrained": "last.pt"},
        "data": {"path": "pairs.tsv"},
    }
    models = look_at_models(check_config(raw, "here", tmp_path))
    assert models["baseline"]["weights_file"] == "open_clip_model.safetensors"
    assert models["candidate"]["weights_file"] == "last.pt [model]"
    assert models["same"]
