"""Directions on new samples, and the slices made of them, against dense computations and planted groups."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import koda
import koda.discrepancy.blocks
import koda.discrepancy.extension
import koda.embeddings.tables
import koda.slicing.slices
from koda.config import DiscrepancyConfig
from koda.discrepancy import Direction, find_discrepancies
from koda.embeddings import EmbeddingTable
from koda.errors import ConfigError, DataError, KodaError, SolverError
from koda.slicing.slices import common_keys, extend, slices
from koda.slicing.words import distinctive_words, over_represented

N, DISCOVERY, GROUP = 400, 250, 0.1


def _planted(seed=0, n=N, d=12):
    """A target that ties a tenth of the samples together, a reference that does not; both over image and text."""
    rng = np.random.default_rng(seed)
    inside = rng.random(n) < GROUP
    image, text = rng.normal(size=(2, n, d))
    centre = 1.5 * rng.normal(size=d)
    caption = [f"a {'purple' if g else rng.choice(['red', 'blue', 'green'])} shape" for g in inside]
    metadata = {"caption": caption, "kind": ["planted" if g else "other" for g in inside]}
    keys = [f"k{i:04d}" for i in range(n)]
    reference = EmbeddingTable(keys, image=image, text=text)
    target = EmbeddingTable(
        keys, image=np.where(inside[:, None], centre + 0.3 * image, image), text=text, metadata=metadata
    )
    return target, reference, inside


@pytest.fixture(scope="module")
def planted():
    target, reference, inside = _planted()
    config = DiscrepancyConfig(modality="image", n_directions=3, device="cpu")
    keys = target.keys[:DISCOVERY]
    solution = find_discrepancies(target.select(keys), reference.select(keys), config)
    return solution, target, reference, inside


@pytest.fixture(scope="module")
def sliced(planted):
    solution, target, reference, _ = planted
    return slices(solution, target, reference)


def _gauss(x, y, sigma):
    return np.exp(-((x[:, None, :] - y[None, :, :]) ** 2).sum(2) / (2 * sigma**2))


def _dense_extension(solution, target, reference, keys):
    """The eigen-equation written out with dense matrices, a direction and a sample at a time."""
    base = [table.select(solution.keys).image for table in (target, reference)]
    new = [table.select(keys).image for table in (target, reference)]
    sigmas = [kernel.sigmas["image"] for kernel in (solution.kernels.target, solution.kernels.reference)]
    n = len(solution.keys)
    inner = [_gauss(b, b, s) / n for b, s in zip(base, sigmas, strict=True)]
    outer = [_gauss(z, b, s) / n for z, b, s in zip(new, base, sigmas, strict=True)]
    values = []
    for k, direction in enumerate(solution.directions):
        m = inner[0] - direction.multiplier * inner[1]
        row = (outer[0] - direction.multiplier * outer[1]) @ direction.x
        for j in range(k):
            row = row - values[j] * (solution.directions[j].x @ m @ direction.x)
        without_self = m - np.diag(np.diag(m))
        values.append(row / (direction.x @ without_self @ direction.x))
    return np.array(values)


def test_extension_equals_the_dense_formula(planted):
    solution, target, reference, _ = planted
    new = target.keys[DISCOVERY:]
    want = _dense_extension(solution, target, reference, new)
    assert extend(solution, target, reference, new) == pytest.approx(want, abs=1e-9)


def test_samples_of_the_search_keep_their_values(planted):
    solution, target, reference, _ = planted
    values = extend(solution, target, reference)
    assert values.shape == (3, N)
    for k, direction in enumerate(solution.directions):
        assert (values[k, :DISCOVERY] == direction.x).all()
    mixed = [target.keys[i] for i in (399, 3, 260)]
    assert extend(solution, target, reference, mixed) == pytest.approx(values[:, [399, 3, 260]], abs=1e-12)


def test_a_sample_left_out_of_the_sum_gets_its_own_value(planted):
    """For a twin of a sample of the search the sum counts that sample: nu / nu' times its value."""
    solution, target, reference, _ = planted
    first = solution.directions[0]
    twins = [f"twin{i}" for i in range(5)]

    def with_twins(table):
        return EmbeddingTable([*table.keys, *twins], image=np.vstack([table.image, table.image[:5]]))

    n, energy = DISCOVERY, first.target_energy - first.multiplier * first.reference_energy
    want = first.x[:5] * energy / (energy - (1 - first.multiplier) / n)
    got = extend(solution, with_twins(target), with_twins(reference), twins)[0]
    assert got == pytest.approx(want, rel=1e-4, abs=1e-6)


def test_new_samples_are_on_the_scale_of_the_search(planted):
    solution, target, reference, inside = planted
    f = extend(solution, target, reference)[0]
    seen, new = f[:DISCOVERY][inside[:DISCOVERY]], f[DISCOVERY:][inside[DISCOVERY:]]
    assert new.mean() == pytest.approx(seen.mean(), rel=0.1)


def test_blocks_and_order_do_not_matter(planted, monkeypatch):
    solution, target, reference, _ = planted
    want = extend(solution, target, reference)
    monkeypatch.setattr(koda.discrepancy.blocks, "_BLOCK_ROWS", 7)
    monkeypatch.setattr(koda.discrepancy.blocks, "_BLOCK_COLUMNS", 31)
    order = np.random.default_rng(0).permutation(N)
    got = extend(solution, target.take(order), reference.take(order[::-1]), target.keys)
    assert got == pytest.approx(want, abs=1e-12)


def test_joint_kernels_extend_too():
    target, reference, _inside = _planted(seed=5)
    keys = target.keys[:DISCOVERY]
    config = DiscrepancyConfig(modality="joint", n_directions=2, device="cpu", sigma=3.0)
    solution = find_discrepancies(target.select(keys), reference.select(keys), config)
    values = extend(solution, target, reference)
    assert np.isfinite(values).all()
    n, new = DISCOVERY, slice(DISCOVERY, None)
    first = solution.directions[0]

    def product(table, a, b):
        return _gauss(table.image[a], table.image[b], 3.0) * _gauss(table.text[a], table.text[b], 3.0) / n

    old = slice(0, n)
    m_new = product(target, new, old) - first.multiplier * product(reference, new, old)
    m_old = product(target, old, old) - first.multiplier * product(reference, old, old)
    np.fill_diagonal(m_old, 0)
    assert values[0, new] == pytest.approx(m_new @ first.x / (first.x @ m_old @ first.x), abs=1e-8)


def test_the_planted_group_is_the_slice(planted, sliced):
    _, target, _, inside = planted
    first = sliced[0]
    group = {key for key, g in zip(target.keys, inside, strict=True) if g}
    members = set(first.positive.members)
    assert len(members & group) / len(members) > 0.85
    assert len(members & group) / len(group) > 0.7
    assert [w.text for w in first.positive.words] == ["purple"]
    assert first.positive.metadata[0].value == "planted"
    assert first.positive.metadata[0].lift > 3
    both = first.similarity
    assert both["target"].inside_positive > 2 * both["target"].positive_to_rest
    assert both["target"].inside_positive > 2 * both["reference"].inside_positive


def test_lobes_are_ranked_and_flagged(planted, sliced):
    solution, target, reference, _ = planted
    assert [s.direction for s in sliced] == [1, 2, 3]
    values = extend(solution, target, reference)
    at = {key: i for i, key in enumerate(target.keys)}
    for number, one in enumerate(sliced):
        for sign, lobe in ((1, one.positive), (-1, one.negative)):
            assert lobe.sign == ("positive" if sign > 0 else "negative")
            assert (sign * lobe.scores > 0).all()
            assert (np.diff(sign * lobe.scores) <= 0).all()
            assert lobe.scores == pytest.approx([values[number, at[key]] for key in lobe.keys], abs=1e-12)
            assert lobe.in_sample.tolist() == [at[key] < DISCOVERY for key in lobe.keys]
            assert len(lobe.keys) >= max(lobe.size + 10, 50)
            assert 5 <= lobe.size <= 0.1 * N
            assert lobe.members == lobe.keys[: lobe.size]
        best = {target.keys[i] for i in np.argsort(-values[number])[:50]}
        assert best == set(one.positive.keys[:50])


def test_similarity_table_equals_brute_force(planted, sliced):
    solution, target, reference, _ = planted
    one = sliced[1]
    rest = [k for k in target.keys if k not in {*one.positive.members, *one.negative.members}]
    searched = set(solution.keys)
    for role, table, kernel, held_out in (
        (role, table, kernel, held_out)
        for role, table, kernel in (
            ("target", target, solution.kernels.target),
            ("reference", reference, solution.kernels.reference),
        )
        for held_out in (True, False)
    ):
        p, q, r = (
            table.select([key for key in keys if (key not in searched) is held_out]).image
            for keys in (one.positive.members, one.negative.members, rest)
        )
        sigma = kernel.sigmas["image"]

        def inside(z, sigma=sigma):
            return _gauss(z, z, sigma)[~np.eye(len(z), dtype=bool)].mean()

        want = [inside(p), inside(q), *(_gauss(a, b, sigma).mean() for a, b in ((p, q), (p, r), (q, r)))]
        found = (one.similarity if held_out else one.similarity_searched)[role]
        assert list(found.model_dump().values()) == pytest.approx(want, abs=1e-5)


def test_slices_do_not_depend_on_the_order_of_rows(planted, sliced):
    solution, target, reference, _ = planted
    order = np.random.default_rng(1).permutation(N)
    again = slices(solution, target.take(order), reference.take(order[::-1]))
    for one, other in zip(sliced, again, strict=True):
        assert one.positive.members == other.positive.members
        assert one.negative.members == other.negative.members
        assert one.positive.words == other.positive.words


@pytest.mark.parametrize("stand", [20_000, 60, 10])
def test_words_and_metadata_are_those_of_a_plain_count(planted, monkeypatch, stand):
    """Where samples stand for the rest, or for a large lobe, they alone are counted."""
    solution, target, reference, _ = planted
    monkeypatch.setattr(koda.slicing.slices, "_BACKGROUND", stand)
    row_of = {key: row for row, key in enumerate(target.keys)}
    ranked = sorted(target.keys)
    drawn = np.random.default_rng(0).choice(N, size=min(stand, N), replace=False)
    background = {row_of[ranked[row]] for row in drawn}
    for piece in slices(solution, target, reference, n_words=5):
        for lobe in (piece.positive, piece.negative):
            members = [row_of[key] for key in lobe.members]
            some = members
            if len(members) > stand:
                some = [members[int(place)] for place in np.linspace(0, len(members) - 1, stand)]
            rest = sorted(background - set(members))
            assert lobe.metadata == over_represented(target.metadata, some, rest, limit=5)
            captions = target.metadata["caption"]
            words = distinctive_words([captions[row] for row in some], [captions[row] for row in rest], limit=5)
            assert lobe.words == words


def test_more_directions_do_not_index_the_samples_again(planted, monkeypatch):
    """The keys of a table are looked through once for all directions: at a million samples each look is a second."""
    solution, target, reference, _ = planted
    one = replace(solution, directions=solution.directions[:1])
    assert len(solution.directions) == 3
    looks = []
    for name in ("checked_keys", "rows_of"):
        real = getattr(koda.embeddings.tables, name)
        watched = lambda keys, *rest, real=real: looks.append(len(keys)) or real(keys, *rest)  # noqa: E731
        monkeypatch.setattr(koda.embeddings.tables, name, watched)
        if name == "rows_of":
            monkeypatch.setattr(koda.discrepancy.blocks, name, watched)
    counts = []
    for given in (one, solution):
        looks.clear()
        slices(given, target, reference)
        counts.append(sum(size == N for size in looks))
    assert counts[0] == counts[1] > 0


def test_only_some_samples_can_be_ranked(planted):
    solution, target, reference, _ = planted
    keys = target.keys[DISCOVERY : DISCOVERY + 40]
    (first, *_) = slices(solution, target, reference, keys=keys)
    assert set(first.positive.keys) | set(first.negative.keys) == set(keys)
    assert not first.positive.in_sample.any()


def test_slices_have_names(planted, sliced):
    assert sliced[0].name.startswith("kind = planted")
    assert sliced[0].positive.name.startswith("kind = planted (")
    solution, target, reference, _ = planted
    bare = (EmbeddingTable(table.keys, image=table.image) for table in (target, reference))
    first = slices(solution, *bare)[0]
    assert first.positive.name == f"group of {first.positive.size} pictures"
    assert first.name == f"a group of {first.positive.size} pictures against one of {first.negative.size}"


def _by_hand(planted, x, multiplier=0.0):
    solution = planted[0]
    direction = Direction(x / np.linalg.norm(x), 0.1, 0.01, 10.0, multiplier, 0.0, "optimal", 0.3, 0.3)
    return replace(solution, directions=(direction,))


def test_a_direction_of_one_sign_has_an_empty_counterpart(planted):
    _, target, reference, _ = planted
    solution = _by_hand(planted, np.ones(DISCOVERY))
    (one,) = slices(solution, target, reference)
    assert one.negative.size == 0
    assert one.negative.keys == ()
    for table in one.similarity.values():
        assert table.inside_negative is table.across is table.negative_to_rest is None
        assert table.inside_positive is not None


def test_a_lobe_of_one_has_no_similarity_inside(planted):
    _, target, reference, _ = planted
    x = np.full(DISCOVERY, 1.0)
    x[0] = -1.0
    (one,) = slices(_by_hand(planted, x), target, reference, keys=target.keys[:DISCOVERY])
    assert one.negative.size == 1
    assert one.similarity["target"].inside_negative is None
    assert one.similarity["target"].across is not None


def test_a_direction_that_only_its_own_sample_holds_up_is_zero_elsewhere():
    n = 60
    keys = [str(i) for i in range(n)]
    image = 100.0 * np.eye(n)
    image[5] = image[6]  # which the reference ties, so that its kernel is one
    far = EmbeddingTable(keys, image=image)
    config = DiscrepancyConfig(modality="image", sigma=1.0, device="cpu", n_directions=1)
    target = EmbeddingTable(keys, image=np.where(np.arange(n)[:, None] < 4, 0.0, far.image) + 1.0)
    solution = find_discrepancies(target.select(keys[:40]), far.select(keys[:40]), config)
    alone = replace(
        solution, directions=(Direction(np.eye(40)[9], 1 / 40, 1 / 40, 1.0, 0.0, 0.0, "optimal", 0.1, 0.1),)
    )
    assert (extend(alone, target, far)[0, 40:] == 0).all()
    (one,) = slices(alone, target, far)
    assert one.positive.keys == (solution.keys[9],)
    assert one.positive.size == 1


def test_no_directions_no_slices(planted):
    solution, target, reference, _ = planted
    empty = replace(solution, directions=())
    assert slices(empty, target, reference) == ()
    assert extend(empty, target, reference).shape == (0, N)


def test_rows_that_no_kernel_can_use_are_left_out_or_refused(planted):
    solution, target, reference, _ = planted
    image = target.image.copy()
    image[300], image[301] = np.nan, 0.0
    damaged = EmbeddingTable(target.keys, image=image, metadata=target.metadata)
    keys = common_keys(solution, damaged, reference)
    assert len(keys) == N - 2
    assert np.isfinite(extend(solution, damaged, reference)).all()
    listed = {key for one in slices(solution, damaged, reference) for key in one.positive.keys + one.negative.keys}
    assert not listed & {target.keys[300], target.keys[301]}
    with pytest.raises(DataError, match=target.keys[300]):
        extend(solution, damaged, reference, [target.keys[300]])


def test_a_text_that_the_kernel_does_not_use_may_be_damaged(planted):
    solution, target, reference, _ = planted
    damaged = EmbeddingTable(target.keys, image=target.image, text=np.full((N, 3), np.nan))
    assert common_keys(solution, damaged, reference) == target.keys


def test_a_damaged_solution_is_an_error_not_a_number(planted):
    _, target, reference, _ = planted
    with np.errstate(invalid="ignore"), pytest.raises(SolverError, match="finite"):
        extend(_by_hand(planted, np.ones(DISCOVERY), multiplier=np.inf), target, reference)


def test_bad_input_is_refused_in_words(planted):
    solution, target, reference, _ = planted
    with pytest.raises(DataError, match="'nobody'"):
        extend(solution, target, reference, ["nobody"])
    with pytest.raises(DataError, match="not in the table"):
        extend(solution, target.take(range(100, 400)), reference, target.keys[300:])
    with pytest.raises(DataError, match="no samples"):
        slices(solution, target, reference, keys=[])
    with pytest.raises(KodaError, match="image"):
        extend(solution, EmbeddingTable(target.keys, text=target.text), reference)
    for wrong in ({"floor": 0}, {"cap": 0.0}, {"cap": 1.5}, {"listed": 0}):
        with pytest.raises(ConfigError):
            slices(solution, target, reference, **wrong)


def test_the_package_name_is_the_function_however_it_was_imported(planted, sliced):
    solution, target, reference, _ = planted
    again = koda.slices(solution, target, reference)
    assert [s.positive.members for s in again] == [s.positive.members for s in sliced]
