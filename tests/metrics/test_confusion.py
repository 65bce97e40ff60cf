"""What two models take the samples of a set for, counted by hand."""

from __future__ import annotations

import numpy as np
import torch

from koda.metrics.confusion import confusions
from koda.metrics.zero_shot import ClassRanks, classify
from koda.records import Subset

WHOLE = Subset("lost", 1, "positive")
NAMES = list("abcdefghij")


def _ranks(right, chosen):
    keys = tuple(f"k{i}" for i in range(len(right)))
    own, taken = np.array(right), np.array(chosen)
    return ClassRanks(keys, np.where(own == taken, 1, 2), np.arange(len(right)), own, taken)


def test_rows_are_right_columns_are_chosen_and_both_models_have_the_same():
    right = [0, 0, 0, 1, 1, 2]
    ranks = {"baseline": _ranks(right, right), "candidate": _ranks(right, [0, 3, 3, 1, 0, 2])}
    old, new = confusions(WHOLE, [f"k{i}" for i in range(5)] + ["elsewhere"], ranks, NAMES)
    assert (old.role, new.role, old.subset) == ("baseline", "candidate", WHOLE)
    assert old.right == new.right == ["a", "b"] and old.chosen == new.chosen == ["a", "b", "d"]
    assert old.counts == [[3, 0, 0], [0, 2, 0]]
    assert new.counts == [[1, 0, 2], [1, 1, 0]]
    assert (new.n, new.n_left_out) == (5, 0)
    assert old.places == new.places == {}


def test_of_the_samples_that_are_shown_it_is_said_which_cell_they_are_in():
    ranks = {"baseline": _ranks([0, 0, 1], [0, 0, 1]), "candidate": _ranks([0, 0, 1], [0, 1, 1])}
    old, new = confusions(WHOLE, ["k0", "k1", "k2"], ranks, NAMES, {"k1", "k2", "elsewhere"})
    assert old.places == {"k1": (0, 0), "k2": (1, 1)} and new.places == {"k1": (0, 1), "k2": (1, 1)}


def test_of_many_classes_the_most_frequent_are_shown_and_the_rest_is_counted():
    right = [8] * 3 + list(range(7))
    chosen = [9, 9, 9, *range(7)]
    ranks = {"baseline": _ranks(right, right), "candidate": _ranks(right, chosen)}
    old, new = confusions(WHOLE, ranks["baseline"].keys, ranks, NAMES)
    assert old.right == new.right == ["i", "a", "b", "c", "d", "e"]
    assert (old.n, old.n_left_out) == (10, 2)
    assert len(new.chosen) == 7 and new.chosen[-1] == "other classes" and "j" in new.chosen
    for record in (old, new):
        assert np.sum(record.counts) == record.n - record.n_left_out
        assert len(record.counts) == len(record.right)
        assert {len(row) for row in record.counts} == {len(record.chosen)}
    assert new.counts[0][new.chosen.index("j")] == 3


def test_without_a_labelled_sample_there_is_nothing_to_confuse():
    ranks = {"baseline": _ranks([0], [0]), "candidate": _ranks([0], [1])}
    assert confusions(WHOLE, ["elsewhere"], ranks, NAMES) == []
    assert confusions(WHOLE, ["k0"], {}, NAMES) == []


def test_the_class_chosen_is_wrong_wherever_the_rank_says_so():
    rng = np.random.default_rng(0)
    vectors = np.linalg.qr(rng.normal(size=(4, 4)))[0]
    vectors = np.vstack([vectors, vectors[:1]])  # two classes of one name's worth: a tie counts against the model
    images, right = rng.normal(size=(50, 4)), rng.integers(0, 5, 50)
    ranks, chosen = classify(images, vectors, right, torch.device("cpu"))
    assert ((chosen == right) == (ranks == 1)).all()
    wrong = chosen != right
    scores = np.round(images @ vectors.T, 9)  # two equal classes come equally near, and the first of them is chosen
    scores[np.arange(50), right] = -np.inf
    assert (chosen[wrong] == scores.argmax(1)[wrong]).all()
    assert wrong.any() and not wrong.all()
