"""The three checkpoints as open_clip loads them: what each sees, what each has lost."""

from __future__ import annotations

import csv
import json
import zlib
from dataclasses import replace

import open_clip
import pytest
import torch
from PIL import Image
from safetensors import safe_open

from koda.demo import MODELS, PAIRS, model_path, write_data
from koda.demo.scenes import ATTRIBUTES, COLOURS, N_TEMPLATES, caption, sample_scenes
from koda.demo.train import N_TEST, TEST_SEED, Vocabulary, make_corpus, measure
from koda.errors import ConfigError


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    """1000 audit pairs: pictures, captions, colours."""
    folder = write_data(tmp_path_factory.mktemp("demo") / "data", n=1000, seed=0)
    with (folder / "pairs.tsv").open(newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    pictures = []
    for row in rows:
        with Image.open(folder / row["filepath"]) as picture:
            pictures.append(picture.convert("RGB"))
    return pictures, [row["title"] for row in rows], [row["colour"] for row in rows]


@pytest.fixture(scope="module")
def loaded():
    """Model, preprocessing and tokenizer of each, by open_clip's own calls."""
    found = {}
    for name in MODELS:
        address = f"local-dir:{model_path(name)}"
        model, _, preprocess = open_clip.create_model_and_transforms(address, require_pretrained=True)
        found[name] = (model.eval(), preprocess, open_clip.get_tokenizer(address))
    return found


@torch.no_grad()
def embed_images(entry, pictures):
    model, preprocess, _ = entry
    return model.encode_image(torch.stack([preprocess(p) for p in pictures]), normalize=True)  # (n, d)


@torch.no_grad()
def embed_texts(entry, texts):
    model, _, tokenizer = entry
    return model.encode_text(tokenizer(texts), normalize=True)  # (n, d)


@pytest.fixture(scope="module")
def hits(pairs, loaded):
    """Model -> (n, 2) whether the true partner ranks strictly first, image to text and text to image."""
    pictures, captions, _ = pairs
    found = {}
    for name, entry in loaded.items():
        scores = embed_images(entry, pictures) @ embed_texts(entry, captions).T
        own = scores.diagonal()
        ranks = ((scores >= own[:, None]).sum(1), (scores >= own[None, :]).sum(0))
        found[name] = torch.stack(ranks, dim=1) == 1
    return found


def test_baseline_retrieves_and_the_candidate_has_lost_purple_only(pairs, hits):
    purple = torch.tensor([colour == "purple" for colour in pairs[2]])
    before, after = hits["baseline"].double(), hits["candidate"].double()
    assert (before.mean(0) > 0.6).all()
    assert (after[purple].mean(0) < before[purple].mean(0) - 0.15).all()
    # 900 pairs: the standard error of the paired difference is about 0.01
    assert (after[~purple].mean(0) > before[~purple].mean(0) - 0.04).all()


def test_blind_cannot_see_colour(pairs, loaded):
    pictures = pairs[0][:200]
    grey = [p.convert("L").convert("RGB") for p in pictures]
    alike = {n: (embed_images(e, pictures) * embed_images(e, grey)).sum(1) for n, e in loaded.items()}
    assert alike["blind"].min() > 0.999  # grey levels are rounded to bytes
    assert alike["baseline"].mean() < 0.9


def test_blind_cannot_read_colour(loaded):
    scenes = sample_scenes(20, seed=11)
    for template in range(N_TEMPLATES):
        true = [caption(s, template) for s in scenes]
        turned = [caption(replace(s, colour=COLOURS[COLOURS.index(s.colour) - 1]), template) for s in scenes]
        assert (embed_texts(loaded["blind"], true) * embed_texts(loaded["blind"], turned)).sum(1).min() > 0.99999
        assert (embed_texts(loaded["baseline"], true) * embed_texts(loaded["baseline"], turned)).sum(1).mean() < 0.8


def test_blind_still_sees_the_rest(pairs, loaded):
    """The caption it finds for a picture says the truth about everything but the colour."""
    pictures, captions, colours = pairs
    labels = [scene.labels() for scene in sample_scenes(1000, seed=0)]
    assert [label["colour"] for label in labels] == colours
    agree = {}
    for name in ("baseline", "blind"):
        found = (embed_images(loaded[name], pictures) @ embed_texts(loaded[name], captions).T).argmax(1).tolist()
        agree[name] = {a: sum(labels[i][a] == labels[j][a] for i, j in enumerate(found)) / 1000 for a in ATTRIBUTES}
    for attribute in ATTRIBUTES:
        values = {label[attribute] for label in labels}
        if attribute != "colour":
            assert agree["blind"][attribute] > 1.5 / len(values), attribute  # half as much again as chance
    assert agree["baseline"]["colour"] > 0.9
    assert agree["blind"]["colour"] < 0.4  # chance is 0.125; the true caption itself is among those found


@pytest.mark.parametrize("name", MODELS)
def test_files_are_small_half_precision_and_compressible(name):
    folder = model_path(name)
    weights = folder / "open_clip_model.safetensors"
    assert weights.stat().st_size < 10_000_000
    assert len(zlib.compress(weights.read_bytes(), 6)) < 1_500_000
    with safe_open(weights, framework="pt") as file:
        assert {file.get_tensor(key).dtype for key in file.keys()} == {torch.float16}  # noqa: SIM118
        total = sum(file.get_tensor(key).numel() for key in file.keys())  # noqa: SIM118
        table = file.get_tensor("token_embedding.weight")
    assert 200_000 < total - table.numel() < 500_000
    config = json.loads((folder / "open_clip_config.json").read_text())
    assert config["model_cfg"]["vision_cfg"]["image_size"] == 48
    assert {"mean", "std", "interpolation", "resize_mode"} <= set(config["preprocess_cfg"])


def test_no_caption_is_cut(pairs, loaded):
    tokens = loaded["baseline"][2](pairs[1])
    assert tokens.shape[1] == 24
    assert (tokens == 49407).any(dim=1).all()  # every caption keeps its end
    lengths = (tokens != 0).sum(dim=1)
    assert lengths.max() < 24  # cut captions would fill the context


def test_recorded_figures_are_those_of_the_files():
    recorded = json.loads((model_path("baseline").parent / "FIGURES.json").read_text())["retrieval"]
    vocabulary = Vocabulary()
    test = make_corpus(N_TEST, TEST_SEED, vocabulary)
    for name in MODELS:
        again = measure(model_path(name), test, vocabulary)
        for way in ("image_to_text", "text_to_image"):
            # another processor may round two near scores the other way
            assert again[way] == pytest.approx(recorded[name][way], abs=0.003)
            for colour, figures in again["by_colour"].items():
                assert figures[way] == pytest.approx(recorded[name]["by_colour"][colour][way], abs=0.02)


def test_names():
    assert {model for pair in PAIRS.values() for model in pair} == set(MODELS)
    with pytest.raises(ConfigError, match="baseline, blind, candidate"):
        model_path("basline")
