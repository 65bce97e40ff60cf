"""Extraction: rows belong to their keys, what cannot be embedded is told, and each caption is encoded once."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import koda.extraction.artifact
from koda.config import DataConfig, ModelSpec
from koda.datasets import PairDataset, read_dataset
from koda.errors import DataError, ModelError
from koda.extraction import KIND, embedding_key, extract, load_embeddings
from koda.models import Encoder, ResolvedModel, resolve_model
from koda.storage import ArtifactStore
from tests.tiny import write_tiny_model

Write = Callable[..., Path]


@pytest.fixture
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(koda.extraction.artifact, "SHARD_SIZE", 4)


@pytest.fixture
def model(tmp_path: Path) -> ResolvedModel:
    return tiny(tmp_path, "fp32")


def tiny(tmp_path: Path, precision: str) -> ResolvedModel:
    folder = tmp_path / "tiny"
    if not folder.exists():
        write_tiny_model(folder, seed=0)
    return resolve_model(ModelSpec.model_validate({"name": f"local-dir:{folder}", "precision": precision}), "cpu")


def own(tmp_path: Path, source: str) -> ResolvedModel:
    """Return a model that a function of the test makes, on pictures of 8 pixels."""
    path = tmp_path / "own.py"
    path.write_text(textwrap.dedent(source), encoding="utf-8")
    stated = {"image_size": 8, "image_mean": [0.0] * 3, "image_std": [1.0] * 3}
    return resolve_model(ModelSpec.model_validate({"name": f"python:{path}:make", **stated}), "cpu")


def info_of(store: ArtifactStore, dataset: PairDataset, model: ResolvedModel) -> dict[str, object]:
    extract(store, dataset, model, device="cpu")
    info = store.info(KIND, embedding_key(dataset, model))
    assert info is not None
    return info


def data(path: Path) -> PairDataset:
    return read_dataset(DataConfig(path=str(path), max_rejected=0.9))


@pytest.mark.usefixtures("small_shards")
def test_rows_belong_to_their_keys(pairs_folder: Write, model: ResolvedModel, tmp_path: Path) -> None:
    dataset, store = data(pairs_folder(10)), ArtifactStore(tmp_path / "store")
    extract(store, dataset, model, device="cpu", batch_size=3)
    key = embedding_key(dataset, model)
    table = load_embeddings(store, key, dataset)
    assert len(list(store.folder(KIND, key).glob("shard-*"))) == 3
    assert table.keys == tuple(pair.key for pair in dataset.pairs)
    assert table.metadata["caption"][3] == "caption 3"
    assert table.metadata["colour"][3] == "red"


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_how_far_the_batch_size_moves_embeddings(pairs_folder: Write, tmp_path: Path, precision: str) -> None:
    """Between batch sizes 1, 7 and 64: under 1e-6 in fp32; a cosine of at least 0.9999 in bf16."""
    dataset, model = data(pairs_folder(70)), tiny(tmp_path, precision)
    tables = []
    for batch_size in (1, 7, 64):
        store = ArtifactStore(tmp_path / f"store-{batch_size}")
        extract(store, dataset, model, device="cpu", batch_size=batch_size)
        tables.append(load_embeddings(store, embedding_key(dataset, model)))
    for table in tables[1:]:
        for name in ("image", "text"):
            one, other = getattr(tables[0], name), getattr(table, name)
            if precision == "fp32":
                assert np.abs(one - other).max() < 1e-6
            assert (one * other).sum(axis=1).min() > 0.9999


@pytest.mark.usefixtures("small_shards")
def test_images_that_cannot_be_decoded_are_recorded(pairs_folder: Write, model: ResolvedModel, tmp_path: Path) -> None:
    path = pairs_folder(6)
    (path.parent / "002.png").write_bytes(b"broken")
    for name in ("004.png", "005.png"):  # a whole shard of them
        (path.parent / name).write_bytes(name.encode())
    dataset, store = data(path), ArtifactStore(tmp_path / "store")
    extract(store, dataset, model, device="cpu")
    key = embedding_key(dataset, model)
    info = store.info(KIND, key)
    assert info is not None
    assert info["n"] == 3
    assert sorted(info["rejected"]) == ["002.png", "004.png", "005.png"]
    assert "not an image file" in info["rejected"]["002.png"]
    assert load_embeddings(store, key).keys == ("000.png", "001.png", "003.png")


@pytest.mark.usefixtures("small_shards")
def test_a_damaged_shard_is_made_again_and_the_others_are_kept(
    pairs_folder: Write, model: ResolvedModel, tmp_path: Path
) -> None:
    dataset, store = data(pairs_folder(10)), ArtifactStore(tmp_path / "store")
    digest = extract(store, dataset, model, device="cpu")
    folder = store.folder(KIND, embedding_key(dataset, model))
    stamps = {path.name: path.stat().st_mtime_ns for path in folder.glob("shard-*")}
    shard = folder / "shard-00001.safetensors"
    shard.write_bytes(shard.read_bytes()[:-3])
    seen: list[int] = []
    assert extract(store, dataset, model, device="cpu", progress=lambda done, _: seen.append(done)) == digest
    changed = {name for name, stamp in stamps.items() if (folder / name).stat().st_mtime_ns != stamp}
    assert changed == {"shard-00001.safetensors"}
    assert seen[-1] == 10


REASONS = {
    "empty.png": (b"", "the file is empty"),
    "text.png": (b"not an image at all", "not an image file"),
    "cut.png": (None, "cannot be decoded"),
    "cut.jpg": (None, "cannot be decoded"),
}


def test_damaged_images_are_rejected_for_what_they_are(
    pairs_folder: Write, model: ResolvedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [*REASONS, "narrow.png", "bomb.png", "good.png"]
    path = pairs_folder(0, ["filepath\ttitle", *(f"{name}\tcaption" for name in names)])
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8))
    for name in ("cut.png", "cut.jpg"):
        noise.save(path.parent / name)
        whole = (path.parent / name).read_bytes()
        (path.parent / name).write_bytes(whole[: len(whole) // 2])
    for name, (content, _) in REASONS.items():
        if content is not None:
            (path.parent / name).write_bytes(content)
    noise.save(path.parent / "good.png")
    Image.new("1", (20_000, 10_000)).save(path.parent / "bomb.png")
    Image.new("1", (1, 800_000)).save(path.parent / "narrow.png")
    dataset = data(path)
    store = ArtifactStore(tmp_path / "store")
    found = {item.key: item.reason for item in dataset.rejections}
    found |= dict(info_of(store, dataset, model)["rejected"])  # type: ignore[call-overload]
    words = {name: reason for name, (_, reason) in REASONS.items()} | {"bomb.png": "too large", "narrow.png": "narrow"}
    assert found.keys() == words.keys()
    for name, reason in words.items():
        assert reason in found[name], found[name]


def test_embeddings_with_nan_are_rejected(pairs_folder: Write, tmp_path: Path) -> None:
    path = pairs_folder(6)
    Image.new("RGB", (8, 8)).save(path.parent / "003.png")
    dataset, store = data(path), ArtifactStore(tmp_path / "store")
    model = own(
        tmp_path,
        """
        def make():
            return lambda images: images.flatten(1).sum(1, keepdim=True).log().expand(-1, 3)
        """,
    )
    assert info_of(store, dataset, model)["rejected"] == {"003.png": "the image embedding holds NaN or infinity"}


def test_only_the_modalities_of_the_model_are_written(pairs_folder: Write, tmp_path: Path) -> None:
    path = pairs_folder(6)
    (path.parent / "002.png").write_bytes(b"broken")  # a model of captions does not care
    dataset = data(path)
    for modality, source, n in (
        ("image", "def make():\n    return lambda images: images.flatten(1)[:, :5] + 1", 5),
        (
            "text",
            """
            import torch

            class make:
                def encode_text(self, captions):
                    return torch.tensor([[len(c), 1.0, float(ord(c[-1]))] for c in captions])
            """,
            6,
        ),
    ):
        store, model = ArtifactStore(tmp_path / modality), own(tmp_path, source)
        info = info_of(store, dataset, model)
        table = load_embeddings(store, embedding_key(dataset, model), dataset)
        assert table.modalities == (modality,)
        assert table.n == info["n"] == n
        assert json.loads(json.dumps(info)) == info


def test_long_captions_are_counted_and_empty_ones_kept(
    pairs_folder: Write, model: ResolvedModel, tmp_path: Path
) -> None:
    captions = ["short", "", "very " * 30, "very " * 30, "  ", "very " * 30]
    path = pairs_folder(6, ["filepath\ttitle", *(f"{i:03d}.png\t{text}" for i, text in enumerate(captions))])
    (path.parent / "005.png").write_bytes(b"broken")
    info = info_of(ArtifactStore(tmp_path / "store"), data(path), model)
    assert (info["n"], info["n_long"]) == (5, 2)


@pytest.mark.usefixtures("small_shards")
def test_what_was_altered_on_the_way_is_counted_by_kind_over_all_shards(
    pairs_folder: Write, model: ResolvedModel, tmp_path: Path
) -> None:
    path = pairs_folder(10)
    for number in (0, 5, 9):
        Image.new("RGBA", (12, 12), (255, 0, 0, 100)).save(path.parent / f"{number:03d}.png")
    Image.fromarray(np.full((12, 12), 40_000, np.uint16)).save(path.parent / "001.png")
    exif = Image.Exif()
    exif[0x112] = 6
    Image.new("RGB", (20, 12)).save(path.parent / "006.png", exif=exif)
    dataset, store = data(path), ArtifactStore(tmp_path / "store")
    info = info_of(store, dataset, model)
    assert info["altered"] == {"alpha composed": 3, "16 bit scaled": 1, "EXIF orientation not applied": 1}


def test_a_turned_picture_has_another_embedding(pairs_folder: Write, model: ResolvedModel, tmp_path: Path) -> None:
    path = pairs_folder(4)
    exif = Image.Exif()
    exif[0x112] = 3
    with Image.open(path.parent / "002.png") as image:
        image.save(path.parent / "002.png", exif=exif)
    store, tables = ArtifactStore(tmp_path / "store"), []
    for choice in ("ignore", "apply"):
        dataset = read_dataset(DataConfig(path=str(path), exif=choice))
        extract(store, dataset, model, device="cpu")
        tables.append(load_embeddings(store, embedding_key(dataset, model), dataset).image)
    same = [bool(np.allclose(a, b, atol=1e-4)) for a, b in zip(*tables, strict=True)]
    assert same == [True, True, False, True]


def test_nothing_usable_is_an_error(pairs_folder: Write, model: ResolvedModel, tmp_path: Path) -> None:
    path = pairs_folder(3)
    for file in path.parent.glob("*.png"):
        file.write_bytes(file.name.encode())
    with pytest.raises(DataError, match=r"no usable pair: tiny embedded none of 3 \(.*not an image file"):
        extract(ArtifactStore(tmp_path / "store"), data(path), model, device="cpu")


# Captions


def repeated(pairs_folder: Write) -> Path:
    """Write 14 pairs, 4 a shard, of 5 captions; the first image that has caption b cannot be decoded."""
    captions = "abcaccbdaebbad"
    path = pairs_folder(14, ["filepath\ttitle", *(f"{i:03d}.png\t{text}" for i, text in enumerate(captions))])
    (path.parent / "001.png").write_bytes(b"broken")
    return path


@pytest.mark.usefixtures("small_shards")
def test_each_distinct_caption_is_encoded_once(
    pairs_folder: Write, model: ResolvedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset, store = data(repeated(pairs_folder)), ArtifactStore(tmp_path / "store")
    asked: list[list[str]] = []
    encode = Encoder.encode_texts
    monkeypatch.setattr(Encoder, "encode_texts", lambda self, new: asked.append(list(new)) or encode(self, new))
    extract(store, dataset, model, device="cpu")
    assert asked == [["a", "c"], ["b", "d"], ["e"]]
    key = embedding_key(dataset, model)
    table = load_embeddings(store, key, dataset)
    vectors: dict[str, np.ndarray] = {}
    for caption, vector in zip(table.metadata["caption"], table.text, strict=True):
        assert np.array_equal(vectors.setdefault(caption, vector), vector)


@pytest.mark.usefixtures("small_shards")
@pytest.mark.parametrize("lost", [(0,), (1,), (2,), (1, 3), (0, 2), (0, 1, 2, 3)])
def test_shards_made_again_are_the_same_bytes(
    pairs_folder: Write, model: ResolvedModel, tmp_path: Path, lost: tuple[int, ...]
) -> None:
    """The vectors of repeated captions come from the finished shards then, not from the model."""
    dataset, store = data(repeated(pairs_folder)), ArtifactStore(tmp_path / "store")
    digest = extract(store, dataset, model, device="cpu")
    folder = store.folder(KIND, embedding_key(dataset, model))
    whole = {file.name: file.read_bytes() for file in folder.iterdir()}
    for number in lost:
        (folder / f"shard-{number:05d}.safetensors").unlink()
    assert extract(store, dataset, model, device="cpu") == digest
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == whole


# Precision


def test_half_precision_is_measured_against_full(pairs_folder: Write, tmp_path: Path) -> None:
    path = pairs_folder(6)
    (path.parent / "000.png").write_bytes(b"broken")
    dataset = data(path)
    full = info_of(ArtifactStore(tmp_path / "fp32"), dataset, tiny(tmp_path, "fp32"))["model"]
    half = info_of(ArtifactStore(tmp_path / "bf16"), dataset, tiny(tmp_path, "bf16"))["model"]
    assert isinstance(full, dict)
    assert isinstance(half, dict)
    assert (full["precision"], full["precision_cosine"]) == ("fp32", None)
    assert half["precision"] == "bf16"
    assert 0.999 < half["precision_cosine"] < 1


def test_a_model_that_half_precision_breaks_is_refused(
    pairs_folder: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset, model = data(pairs_folder(6)), tiny(tmp_path, "bf16")
    encode = Encoder.encode_images

    def broken(self: Encoder, pixels: torch.Tensor) -> np.ndarray:
        found = encode(self, pixels)
        return np.roll(found, 1, axis=1) if self.dtype == torch.bfloat16 else found

    monkeypatch.setattr(Encoder, "encode_images", broken)
    with pytest.raises(ModelError, match=r"(?s)tiny in bf16 is no longer the same model.*precision: fp32"):
        extract(ArtifactStore(tmp_path / "store"), dataset, model, device="cpu")


@pytest.mark.usefixtures("small_shards")
@pytest.mark.parametrize("interrupted", [True, False])
def test_a_shard_whose_bytes_changed_is_made_again_and_the_others_are_kept(
    pairs_folder: Write, model: ResolvedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, interrupted: bool
) -> None:
    """By digest: the header of such a shard still says that it is whole."""
    dataset, store = data(pairs_folder(12)), ArtifactStore(tmp_path / "store")
    digest = extract(ArtifactStore(tmp_path / "undisturbed"), dataset, model, device="cpu")
    key = embedding_key(dataset, model)
    folder = store.folder(KIND, key)
    with monkeypatch.context() as patched:
        if interrupted:
            write = koda.extraction.artifact.write_shard

            def killed(path: Path, *arguments: object) -> None:
                if path.name == "shard-00002.safetensors":
                    raise KeyboardInterrupt
                write(path, *arguments)  # type: ignore[arg-type]

            patched.setattr(koda.extraction.artifact, "write_shard", killed)
            with pytest.raises(KeyboardInterrupt):
                extract(store, dataset, model, device="cpu")
        else:
            extract(store, dataset, model, device="cpu")
    changed, kept = (folder / f"shard-0000{number}.safetensors" for number in (0, 1))
    changed.write_bytes(changed.read_bytes()[:-1] + b"\x7f")
    before = kept.stat().st_ino
    assert extract(store, dataset, model, device="cpu") == digest
    assert kept.stat().st_ino == before
    assert sorted(path.name for path in folder.iterdir()) == [
        "complete.json",
        *(f"shard-0000{n}.safetensors" for n in range(3)),
    ]
