"""The demo's purpose: the search finds the planted regression, and nothing in a model against itself."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

import koda
from koda.config import DataConfig, ModelSpec
from koda.datasets import PairDataset, read_dataset
from koda.demo import model_path, write_data
from koda.extraction import embedding_key, extract, load_embeddings
from koda.models import resolve_model
from koda.storage import ArtifactStore


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> PairDataset:
    folder = write_data(tmp_path_factory.mktemp("demo") / "scenes", n=1000)
    return read_dataset(DataConfig(path=str(folder / "pairs.tsv")))


def embed(name: str, dataset: PairDataset, folder: Path) -> koda.EmbeddingTable:
    store = ArtifactStore(folder / name)
    model = resolve_model(ModelSpec(name=f"local-dir:{model_path(name)}", precision="fp32"), "cpu")
    extract(store, dataset, model, device="cpu")
    return load_embeddings(store, embedding_key(dataset, model), dataset)


def test_the_first_lost_direction_sets_purple_against_blue(dataset: PairDataset, tmp_path: Path) -> None:
    baseline, candidate = (embed(name, dataset, tmp_path) for name in ("baseline", "candidate"))
    config = koda.DiscrepancyConfig(n_directions=1, device="cpu")
    solution = koda.find_discrepancies(baseline, candidate, config)
    (found,) = koda.slices(solution, baseline, candidate)
    colour = dict(zip(baseline.keys, baseline.metadata["colour"], strict=True))
    commonest = {
        Counter(colour[key] for key in lobe.keys[:30]).most_common(1)[0] for lobe in (found.positive, found.negative)
    }
    assert {name for name, _ in commonest} == {"purple", "blue"}
    assert all(count >= 24 for _, count in commonest)
    assert max(Counter(colour.values()).values()) < 0.2 * len(colour)
    target, reference = found.similarity["target"], found.similarity["reference"]
    assert target.across < min(target.inside_positive, target.inside_negative)  # type: ignore[type-var, operator]
    assert reference.across / reference.inside_positive > target.across / target.inside_positive  # type: ignore[operator]

    same = koda.find_discrepancies(baseline, baseline, config)
    assert same.directions == ()
    assert same.status.startswith("no discrepancy")
    assert koda.slices(same, baseline, baseline) == ()
