"""Recall at k against a brute-force computation, and the rules on ties, copies and several captions."""

from __future__ import annotations

import numpy as np
import pytest

import koda.metrics.retrieval
from koda.embeddings import EmbeddingTable
from koda.errors import ConfigError, DataError
from koda.metrics.intervals import wilson
from koda.metrics.retrieval import recall, recall_difference


def _table(n=60, d=8, noise=1.0, seed=0, **metadata):
    rng = np.random.default_rng(seed)
    image = rng.normal(size=(n, d))
    return EmbeddingTable(
        keys=[f"k{i}" for i in range(n)],
        image=image.astype(np.float32),
        text=(image + noise * rng.normal(size=(n, d))).astype(np.float32),
        metadata=metadata,
    )


def _brute(table, captions, images):
    """Ranks by loops over pairs: I2T over the first row of each image, T2I over every row."""
    u = table.image / np.linalg.norm(table.image, axis=1, keepdims=True)
    v = table.text / np.linalg.norm(table.text, axis=1, keepdims=True)
    n = table.n
    first = [i for i in range(n) if images[i] not in images[:i]]
    together = {(images[i], captions[i]) for i in range(n)}

    def rank(scores, right):
        best = max(s for s, r in zip(scores, right, strict=True) if r)
        return 1 + sum(s >= best - 1e-6 and not r for s, r in zip(scores, right, strict=True))

    i2t = [
        rank([u[i] @ v[j] for j in range(n)], [(images[i], captions[j]) in together for j in range(n)]) for i in first
    ]
    t2i = [rank([v[j] @ u[i] for i in first], [(images[i], captions[j]) in together for i in first]) for j in range(n)]
    return i2t, t2i


@pytest.mark.parametrize(("queries", "items", "pairs"), [(1, 1, 99), (7, 25, 0), (60, 7, 99), (512, 8192, 99)])
def test_every_rank_equals_brute_force(monkeypatch, queries, items, pairs):
    monkeypatch.setattr(koda.metrics.retrieval, "_QUERIES", queries)
    monkeypatch.setattr(koda.metrics.retrieval, "_ITEMS", items)
    monkeypatch.setattr(koda.metrics.retrieval, "_PAIRS", pairs)
    table = _table()
    found = recall(table)
    i2t, t2i = _brute(table, list(range(60)), list(range(60)))
    assert found.image_to_text.ranks.tolist() == i2t
    assert found.text_to_image.ranks.tolist() == t2i
    assert found.image_to_text.n_gallery == found.text_to_image.n_gallery == 60
    for k in (1, 5, 10):
        estimate = found.estimates()["image_to_text"][f"R@{k}"]
        assert estimate.value == np.mean([r <= k for r in i2t])
        assert estimate.n == 60
        assert estimate.low < estimate.value < estimate.high
    assert found.image_to_text.hits(5).tolist() == [r <= 5 for r in i2t]


@pytest.mark.parametrize("pairs", [0, 65_536])
def test_one_caption_of_all_images_leaves_nothing_wrong_and_is_taken_in_small_blocks(monkeypatch, pairs):
    monkeypatch.setattr(koda.metrics.retrieval, "_PAIRS", pairs)
    monkeypatch.setattr(koda.metrics.retrieval, "_MOST_PAIRS", 300)  # 5 queries of 60 right answers
    blocks = []
    best = koda.metrics.retrieval._best

    def noted(asking, *more):
        blocks.append(len(asking))
        return best(asking, *more)

    monkeypatch.setattr(koda.metrics.retrieval, "_best", noted)
    found = recall(_table(caption=["a photo"] * 60))
    assert found.image_to_text.ranks.tolist() == found.text_to_image.ranks.tolist() == [1] * 60
    assert blocks == [5] * 24


@pytest.mark.parametrize("pairs", [0, 65_536])
def test_several_captions_an_image_and_shared_captions_equal_brute_force(monkeypatch, pairs):
    monkeypatch.setattr(koda.metrics.retrieval, "_PAIRS", pairs)
    monkeypatch.setattr(koda.metrics.retrieval, "_ITEMS", 13)
    rng = np.random.default_rng(3)
    images = [f"img{i // 3}" for i in range(60)]
    captions = [f"text {c}" for c in rng.integers(0, 40, size=60)]
    table = _table(noise=0.8, image_id=images, caption=captions)
    base = table.image.copy()
    base[1::3] = base[2::3] = base[::3]  # an image has one embedding
    text = table.text.copy()
    for row, caption in enumerate(captions):
        text[row] = text[captions.index(caption)]
    table = EmbeddingTable(table.keys, image=base, text=text, metadata=table.metadata)
    found = recall(table, groups="image_id")
    i2t, t2i = _brute(table, captions, images)
    assert found.image_to_text.ranks.tolist() == i2t
    assert found.text_to_image.ranks.tolist() == t2i
    assert (found.image_to_text.n_gallery, found.text_to_image.n_gallery) == (60, 20)
    assert len(found.image_to_text.keys) == 20


def test_queries_are_a_part_of_a_whole_gallery():
    table = _table()
    whole = recall(table)
    keys = ["k50", "k3", "k17"]
    part = recall(table, queries=keys)
    assert part.image_to_text.keys == part.text_to_image.keys == tuple(keys)
    assert part.image_to_text.ranks.tolist() == [whole.image_to_text.ranks[i] for i in (50, 3, 17)]
    assert part.text_to_image.ranks.tolist() == [whole.text_to_image.ranks[i] for i in (50, 3, 17)]
    assert part.image_to_text.n_gallery == 60
    alone = recall(table.select(keys))
    assert alone.image_to_text.n_gallery == 3
    assert (alone.image_to_text.ranks <= part.image_to_text.ranks).all()


def test_constant_embeddings_are_never_perfect():
    rng = np.random.default_rng(0)
    row = rng.normal(size=(1, 512)).astype(np.float32)
    n = 333  # not a multiple of any vector width, so that equal rows may round apart
    table = EmbeddingTable([str(i) for i in range(n)], image=np.repeat(row, n, 0), text=np.repeat(row, n, 0))
    found = recall(table)
    assert (found.image_to_text.ranks == n).all()
    assert (found.text_to_image.ranks == n).all()


def test_a_copy_of_the_caption_is_right_and_a_copy_of_the_image_is_not():
    eye = np.eye(4, dtype=np.float32)
    image = eye[[0, 1, 2, 3]]
    text = eye[[0, 0, 2, 3]]  # the second image has the caption of the first, word for word
    keys = list("abcd")
    told = EmbeddingTable(keys, image=image, text=text, metadata={"caption": ["a dog", "a dog", "a cat", "a cow"]})
    assert recall(told).image_to_text.ranks.tolist() == [1, 3, 1, 1]
    assert recall(told).text_to_image.ranks.tolist() == [1, 1, 1, 1]
    untold = EmbeddingTable(keys, image=image, text=text)
    assert recall(untold).image_to_text.ranks.tolist() == [2, 4, 1, 1]
    copies = EmbeddingTable(keys, image=eye[[0, 0, 2, 3]], text=eye)
    assert recall(copies).text_to_image.ranks.tolist() == [2, 4, 1, 1]


def test_scale_and_precision_do_not_matter():
    table = _table(d=16)
    want = recall(table).image_to_text.ranks
    for scale in (1e-30, 1e30):
        other = EmbeddingTable(table.keys, image=table.image * np.float32(scale), text=table.text)
        assert (recall(other).image_to_text.ranks == want).all()
    q, _ = np.linalg.qr(np.random.default_rng(1).normal(size=(16, 16)))
    turned = EmbeddingTable(table.keys, image=table.image @ q, text=table.text @ q)
    assert (recall(turned).image_to_text.ranks == want).all()


def test_no_shared_space_gives_none():
    table = _table()
    assert recall(EmbeddingTable(table.keys, image=table.image)) is None
    assert recall(EmbeddingTable(table.keys, text=table.text)) is None
    assert recall(EmbeddingTable(table.keys, image=table.image, text=table.text[:, :5])) is None


def test_one_sample():
    found = recall(_table(n=1))
    assert found.image_to_text.ranks.tolist() == [1]
    assert found.image_to_text.at(1).low < 0.3  # one hit of one says little


def test_bad_input_is_refused_in_words():
    table = _table()
    for ks in ((), (0,), (-1, 5)):
        with pytest.raises(ConfigError, match="ks"):
            recall(table, ks=ks)
    with pytest.raises(ConfigError, match="no column 'image_id'"):
        recall(table, groups="image_id")
    with pytest.raises(DataError, match="'nobody'"):
        recall(table, queries=["k1", "nobody"])
    with pytest.raises(DataError, match="no queries"):
        recall(table, queries=[])
    with pytest.raises(DataError, match="repeated"):
        recall(table, queries=["k1", "k1"])
    for bad in (np.nan, np.inf, 0.0):
        image = table.image.copy()
        image[7] = bad
        with pytest.raises(DataError, match="'k7'"):
            recall(EmbeddingTable(table.keys, image=image, text=table.text))


def test_absent_captions_are_not_copies_of_one_another():
    table = _table(noise=5.0, caption=[None, float("nan")] * 30)
    assert (recall(table).image_to_text.ranks == recall(_table(noise=5.0)).image_to_text.ranks).all()


@pytest.mark.parametrize(
    ("hits", "n", "low", "high"),
    [(0, 10, 0.0, 0.2775), (10, 10, 0.7225, 1.0), (81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605)],
)
def test_wilson_against_published_values(hits, n, low, high):
    # the last two: Newcombe (1998), table I, method 3
    estimate = wilson(hits, n)
    assert estimate.low == pytest.approx(low, abs=5e-5)
    assert estimate.high == pytest.approx(high, abs=5e-5)


def test_wilson_refuses_what_is_no_share():
    for hits, n in ((0, 0), (3, 2), (-1, 5)):
        with pytest.raises(ValueError, match="share"):
            wilson(hits, n)


def _captioned(seed, noise):
    """Twenty images with three captions each."""
    images = [f"img{i // 3}" for i in range(60)]
    table = _table(noise=noise, seed=seed, image_id=images, caption=[f"text {i}" for i in range(60)])
    base = table.image.copy()
    base[1::3] = base[2::3] = base[::3]
    return EmbeddingTable(table.keys, image=base, text=table.text, metadata=table.metadata)


def test_a_part_of_the_queries_is_the_same_as_asking_only_these():
    table = _captioned(5, 0.9)
    whole = recall(table, groups="image_id")
    for keys in (["k50", "k3", "k17", "k4"], ["k59"], list(table.keys)):
        part, alone = whole.among(keys), recall(table, groups="image_id", queries=keys)
        for name in ("image_to_text", "text_to_image"):
            got, want = getattr(part, name), getattr(alone, name)
            assert (got.keys, got.n_gallery) == (want.keys, want.n_gallery)
            assert got.ranks.tolist() == want.ranks.tolist()
            assert got.images.tolist() == want.images.tolist()
    with pytest.raises(DataError, match="'nobody'"):
        whole.among(["nobody"])


def test_the_rest_of_the_queries_is_the_same_as_asking_only_these():
    table = _captioned(5, 0.9)
    whole = recall(table, groups="image_id")
    for keys in (["k50", "k3", "k17", "k4"], ["k0", "k1", "k2"], list(table.keys[1:])):
        rest = [key for key in table.keys if key not in keys]
        part, alone = whole.without(keys), recall(table, groups="image_id", queries=rest)
        for name in ("image_to_text", "text_to_image"):
            got, want = getattr(part, name), getattr(alone, name)
            assert (got.keys, got.n_gallery) == (want.keys, want.n_gallery)
            assert got.ranks.tolist() == want.ranks.tolist()
            assert got.images.tolist() == want.images.tolist()
        again = part.among(rest[:1])  # a part of a part
        assert again.text_to_image.keys == tuple(rest[:1])
        assert again.text_to_image.ranks.tolist() == [whole.text_to_image.ranks[table.keys.index(rest[0])]]
    with pytest.raises(DataError, match="No query is left"):
        whole.without(table.keys)
    with pytest.raises(DataError, match="'nobody'"):
        whole.without(["nobody"])


def test_the_difference_equals_an_independent_bootstrap_over_images():
    old, new = _captioned(5, 0.7), _captioned(5, 1.3)
    images = np.array([int(name[3:]) for name in old.metadata["image_id"]])
    found = recall_difference(recall(new, groups="image_id"), recall(old, groups="image_id"))
    hits = [
        [np.array(ranks) <= 5 for ranks in _brute(t, t.metadata["caption"], t.metadata["image_id"])] for t in (old, new)
    ]
    rng = np.random.default_rng(9)
    for place, name in enumerate(("image_to_text", "text_to_image")):
        change = hits[1][place].astype(float) - hits[0][place]
        rows = [np.flatnonzero(images == i) if name == "text_to_image" else np.array([i]) for i in range(20)]
        draws = [change[np.concatenate([rows[i] for i in rng.integers(0, 20, 20)])].mean() for _ in range(4000)]
        estimate = found[name]["R@5"]
        assert estimate.value == pytest.approx(change.mean())
        assert estimate.n == len(change)
        assert (estimate.low, estimate.high) == pytest.approx(np.quantile(draws, [0.025, 0.975]), abs=0.03)


def test_a_model_beside_itself_has_no_difference():
    found = recall(_table())
    for part in recall_difference(found, found).values():
        assert {(e.value, e.low, e.high) for e in part.values()} == {(0.0, None, None)}
    with pytest.raises(DataError, match="same queries"):
        recall_difference(found, found.among(["k1", "k2"]))
