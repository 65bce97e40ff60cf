"""Level and power of the held-out test, and what goes wrong without its three precautions.

    python benchmarks/significance.py
    python benchmarks/significance.py --audits 50 --power-audits 5

Every row is a number of simulated audits, each with the library's own functions: two models see the same n samples,
images and texts; the samples are split at random into a discovery and a confirmation half; ``find_discrepancies`` asks
both questions on the first, ``confirm`` tests every direction on the second, ``holm`` adjusts over the directions of
both questions. An audit *confirms* where any adjusted p-value is under alpha = 0.05. A sample is a point near one of
30 topics, of unequal sizes, in 32 dimensions a modality.

Level, where nothing should be confirmed in more than 5 % of the audits:

- ``rotation``: the candidate is the baseline turned by a random rotation. Their kernels are equal, so exact kernels end
  the search at once; the search is made to use random features, which see the two models with different errors and
  find directions in that.
- ``noise``, ``joint``: both models add independent noise to the same points, and are compared by their images alone
  or by both modalities. They do differ, by less than is material: an audit counts if the largest true difference of its
  directions, on fresh samples, is under the materiality, so that whatever is confirmed is wrong.
- ``boundary``: all these audits with each direction tested against its own true difference, the hardest null hypothesis
  there is. The truth is estimated on fresh samples, so the rate here is a little too high rather than too low.

All of these adjust as for a search of one step, by Holm's rule alone, which is the least careful that koda gets. Of a
search that may go on, as that of the power is by default, the first step has 80 % of the error rate.

The traps, each on the same audits with one precaution left out:

- ``in sample``: the test on the samples of the search (as copies under other names), against the materiality and
  against the true differences.
- ``same features``: directions extended, and the held-out shares taken, with the random features that the search used.
- ``zero materiality``: held out, with exact kernels, against a difference of 0.

Power: a group of 1 % of the samples that the baseline alone ties together, in both modalities. An audit counts where a
confirmed direction of the question "lost" has a lobe that is the group to 80 % or more; lobes are cut as koda does.

Results are written to significance.md and significance.json beside this file as the runs end.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import argparse
import datetime
import json
import platform
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

import koda  # noqa: E402
from benchmarks.significance_table import table  # noqa: E402
from koda.config import SignificanceConfig  # noqa: E402
from koda.discrepancy import Solution  # noqa: E402
from koda.discrepancy.multiplicity import adjusted_p_values  # noqa: E402
from koda.discrepancy.significance import HeldOut, confirm  # noqa: E402
from koda.kernels import Kernel, KernelPair  # noqa: E402
from koda.kernels.features import draw_pair  # noqa: E402
from koda.slicing.slices import extend, members  # noqa: E402
from koda.statistics import holm  # noqa: E402

DIMENSIONS, TOPICS = 32, 30
TIGHT = 0.25  # spread of a planted group, in units of the spread within a topic
FOUND = 0.8  # purity from which a lobe counts as the planted group
ALPHA = 0.05
SEARCH: dict[str, Any] = {"n_directions": 3, "tolerance": 1e-3, "device": "cpu"}
FEATURES: dict[str, Any] = {"features": "orf", "n_features": 150}
GROUP = 0.01  # of the samples, that the planted group has
# of each model, in the same units; the true differences of "noise" and "joint" are just under the materiality
NOISE = {"rotation": 0.0, "noise": 0.16, "joint": 0.22, "planted": 0.2}
SEARCHES: dict[str, dict[str, Any]] = {  # beyond SEARCH
    "rotation": {"modality": "image", **FEATURES},
    "noise": {"modality": "image"},
    "joint": {},
    "planted": {},
}
JUDGED = SignificanceConfig(alpha=ALPHA)
Tables = tuple[koda.EmbeddingTable, koda.EmbeddingTable]


class World:
    """A population of samples and two models of it; what differs between the models is drawn once.

    Args:
        kind: "rotation", "noise", "joint" or "planted".
        group: share of the planted group.
    """

    def __init__(self, kind: str, seed: int, group: float = GROUP) -> None:
        self.kind, self.group = kind, group
        self.rng = rng = np.random.default_rng(seed)
        weights = rng.gamma(2.0, size=TOPICS)
        self.weights = weights / weights.sum()
        self.topics = rng.normal(size=(2, TOPICS, DIMENSIONS))
        self.centres = 1.5 * rng.normal(size=(2, DIMENSIONS))
        self.turns = [[np.linalg.qr(rng.normal(size=(DIMENSIONS,) * 2))[0] for _ in range(2)] for _ in range(2)]

    def draw(self, n: int, prefix: str = "") -> tuple[Tables, frozenset[str]]:
        """Return n samples under the baseline and the candidate, and the keys of the planted group."""
        rng = self.rng
        topic = rng.choice(TOPICS, size=n, p=self.weights)
        inside = rng.random(n) < self.group if self.kind == "planted" else np.zeros(n, dtype=bool)
        parts: list[list[np.ndarray]] = [[], []]  # model -> modality -> (n, d)
        for modality in range(2):
            point = self.topics[modality, topic] + rng.normal(size=(n, DIMENSIONS))
            tight = self.centres[modality] + TIGHT * rng.normal(size=(n, DIMENSIONS))
            for model in range(2):
                x = np.where(inside[:, None], tight, point) if model == 0 else point
                x = x + NOISE[self.kind] * rng.normal(size=x.shape)
                x = x @ self.turns[model][modality]
                parts[model].append(x / np.linalg.norm(x, axis=1, keepdims=True))
        keys = [f"{prefix}{i:06d}" for i in range(n)]
        tables = tuple(koda.EmbeddingTable(keys, image=image, text=text) for image, text in parts)
        return (tables[0], tables[1]), frozenset(key for key, planted in zip(keys, inside, strict=True) if planted)


@dataclass(frozen=True)
class Audit:
    """One simulated audit: both questions searched on the discovery half, with (target, reference) of each."""

    world: World
    solutions: tuple[Solution, Solution]
    tables: tuple[Tables, Tables]
    discovery: tuple[str, ...]
    confirmation: tuple[str, ...]
    planted: frozenset[str]

    @classmethod
    def of(cls, world: World, n: int) -> Audit:
        """Draw the samples, split them, and search both questions."""
        (baseline, candidate), planted = world.draw(n)
        order = world.rng.permutation(n)
        discovery, confirmation = (
            tuple(sorted(baseline.keys[row] for row in part)) for part in (order[: n // 2], order[n // 2 :])
        )
        config = koda.DiscrepancyConfig(**SEARCH, **SEARCHES[world.kind])
        sides = ((baseline, candidate), (candidate, baseline))
        solutions = [koda.find_discrepancies(a.select(discovery), b.select(discovery), config) for a, b in sides]
        return cls(world, (solutions[0], solutions[1]), sides, discovery, confirmation, planted)

    def held_out(self) -> list[HeldOut]:
        """Test as koda does."""
        return [
            held
            for solution, tables in zip(self.solutions, self.tables, strict=True)
            for held in confirm(solution, *tables, self.confirmation, JUDGED)
        ]

    def in_sample(self) -> list[HeldOut]:
        """Test on the samples of the search, as copies under other names."""
        held = []
        for solution, tables in zip(self.solutions, self.tables, strict=True):
            seen = [table.select(self.discovery) for table in tables]
            keys = [f"copy of {key}" for key in self.discovery]
            both = [joined(table, keys, table) for table in seen]
            held += confirm(solution, both[0], both[1], keys, JUDGED)
        return held

    def same_features(self) -> list[HeldOut]:
        """Test with the features of the search in the place of the exact kernels.

        Fourier features have norm 1, so the kernel they stand for is the cosine kernel of the features themselves.
        """
        held = []
        for solution, tables in zip(self.solutions, self.tables, strict=True):
            r, seed = FEATURES["n_features"], solution.config.seed
            maps = draw_pair(solution.kernels, *tables, r, kind=FEATURES["features"], seed=seed)
            own = [
                koda.EmbeddingTable(table.keys, image=features(table, device=torch.device("cpu")).double().numpy())
                for table, features in zip(tables, maps, strict=True)
            ]
            kernel = Kernel({"image": None}, kind="cosine")
            kernels = KernelPair(kernel, kernel, solution.kernels.ties, {}, {}, "features of the search")
            stats = {**solution.stats, "features": "exact"}  # it is extended by this kernel too
            held += confirm(replace(solution, kernels=kernels, stats=stats), own[0], own[1], self.confirmation, JUDGED)
        return held

    def truth(self, m: int) -> list[HeldOut]:
        """Return the figures of the directions on m fresh samples."""
        fresh, _ = self.world.draw(m, "fresh")
        held = []
        for solution, tables, new in zip(self.solutions, self.tables, (fresh, fresh[::-1]), strict=True):
            both = [
                joined(table.select(self.discovery), part.keys, part) for table, part in zip(tables, new, strict=True)
            ]
            held += confirm(solution, both[0], both[1], new[0].keys, JUDGED)
        return held

    def finds_the_group(self, p_values: list[float | None]) -> bool:
        """Say whether a confirmed direction of the first question has a lobe that is the planted group."""
        solution = self.solutions[0]
        if not solution.directions:
            return False
        keys = np.array(sorted(self.tables[0][0].keys))
        planted = np.array([key in self.planted for key in keys])
        for f, p in zip(extend(solution, *self.tables[0], list(keys)), p_values, strict=False):
            confirmed = p is not None and p < ALPHA
            if confirmed and any(len(lobe) and planted[lobe].mean() >= FOUND for lobe in members(f)):
                return True
        return False


def joined(table: koda.EmbeddingTable, keys: list[str] | tuple[str, ...], other: koda.EmbeddingTable) -> Any:
    """Return a table with the rows of another added under these keys."""
    parts = {name: np.vstack([getattr(table, name), getattr(other, name)]) for name in table.modalities}
    return koda.EmbeddingTable([*table.keys, *keys], **parts)


def adjusted(held: list[HeldOut], against: float | list[float] | None = None) -> list[float | None]:
    """Return the adjusted p-values of an audit, at koda's materiality, at another, or at one for each direction."""
    if against is None:
        return holm([one.p_value for one in held])
    limits = against if isinstance(against, list) else [against] * len(held)
    return holm([one.p_above(limit) for one, limit in zip(held, limits, strict=True)])


def confirms(p_values: list[float | None]) -> bool:
    """Say whether an audit confirms anything."""
    return any(p is not None and p < ALPHA for p in p_values)


def largest_z(held: list[HeldOut], materiality: float) -> float:
    """Return the largest z of an audit."""
    values = [(one.difference.value - materiality) / max(one.difference.se or 0.0, 1e-9) for one in held]
    return max(values, default=0.0)


def level(kind: str, n: int, audits: int, *, fresh: int = 4000) -> Iterator[dict[str, Any]]:
    """Yield what each audit says of two models that do not differ materially.

    Args:
        fresh: samples of which the true differences are taken.
    """
    for seed in range(audits):
        audit = Audit.of(World(kind, seed), n)
        held = audit.held_out()
        run: dict[str, Any] = {
            "directions": len(held),
            "koda": confirms(adjusted(held)),
            "largest_difference": max((one.difference.value for one in held), default=0.0),
        }
        if kind == "rotation":
            features = audit.same_features()
            run["same_features"] = confirms(adjusted(features))
            run["same_features_z"] = largest_z(features, 0.0)
        else:
            seen = audit.in_sample()
            run["in_sample"] = confirms(adjusted(seen))
            run["optimism"] = max((one.difference.value for one in seen), default=0.0) / run["largest_difference"]
            run["in_sample_z"] = largest_z(seen, JUDGED.materiality)
            run["zero_materiality"] = confirms(adjusted(held, 0.0))
            run["zero_materiality_z"] = largest_z(held, 0.0)
            truth = [one.difference.value for one in audit.truth(fresh)]
            run["true_difference"] = max(truth, default=0.0)
            run["boundary"] = confirms(adjusted(held, truth))
            run["in_sample_boundary"] = confirms(adjusted(seen, truth))
        yield run


def power(n: int, audits: int) -> Iterator[dict[str, Any]]:
    """Yield whether each audit confirms the planted group."""
    for seed in range(audits):
        began = time.perf_counter()
        audit = Audit.of(World("planted", 10_000 + seed), n)
        held = audit.held_out()
        first = len(audit.solutions[0].directions)
        search = audit.solutions[0].config
        values = [one.p_value for one in held]
        p_values, _ = adjusted_p_values([values[:first], values[first:]], search.n_directions, search.max_directions)
        yield {
            "directions": len(held),
            "planted": audit.finds_the_group(p_values),
            "difference": max((one.difference.value for one in held), default=0.0),
            "group": len(audit.planted),
            "seconds": time.perf_counter() - began,
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=800, help="of an audit of the level")
    parser.add_argument("--audits", type=int, default=200, help="of each kind, for the level")
    parser.add_argument("--fresh", type=int, default=4000, help="samples that these are taken on")
    parser.add_argument("--power-samples", type=int, default=4000)
    parser.add_argument("--power-audits", type=int, default=40)
    parser.add_argument("--output", type=Path, default=HERE, help="folder of significance.md and significance.json")
    chosen = parser.parse_args()
    began = time.perf_counter()
    results: dict[str, Any] = {
        "date": datetime.date.today().isoformat(),
        "device": f"{platform.machine()} CPU",
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
        "koda": koda.__version__,
        "alpha": ALPHA,
        "materiality": JUDGED.materiality,
        "n_level": chosen.samples,
        "n_fresh": chosen.fresh,
        "n_power": chosen.power_samples,
        "group": GROUP,
        "noise": NOISE,
        "tight": TIGHT,
        "searches": SEARCHES,
        "runs": {},
    }
    blocks: dict[str, Iterator[dict[str, Any]]] = {
        kind: level(kind, chosen.samples, chosen.audits, fresh=chosen.fresh) for kind in ("rotation", "noise", "joint")
    }
    blocks["planted"] = power(chosen.power_samples, chosen.power_audits)
    for name, run in blocks.items():
        results["runs"][name] = []
        for number, one in enumerate(run):
            short = {key: float(f"{v:.5g}") if isinstance(v, float) else v for key, v in one.items()}
            results["runs"][name].append(short)
            print(f"{name} {number}: {one}", file=sys.stderr, flush=True)
            results["seconds"] = round(time.perf_counter() - began)
            if number % 10 == 9 or name == "planted":  # a run that is cut short leaves what it has
                write(results, chosen.output)
        write(results, chosen.output)
    print(table(results, SEARCH["n_directions"]))


def write(results: dict[str, Any], folder: Path) -> None:
    """Write what there is so far."""
    (folder / "significance.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    (folder / "significance.md").write_text(table(results, SEARCH["n_directions"]), encoding="utf-8")


if __name__ == "__main__":
    main()
