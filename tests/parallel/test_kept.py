"""What a worker keeps of its last parts: the latest, and each part has what it asked for, whatever others ask for."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
from scipy.sparse import eye_array

from koda.metrics.retrieval import _ranks
from koda.metrics.retrieval_parts import _sparse, ranks_of_part
from koda.parallel import Exchange, Handle, Kept


def test_the_latest_are_kept_and_room_is_made_before_another_is_made() -> None:
    kept, made = Kept[str](2), []
    there: list[int] = []

    def ask(name: str) -> str:
        def make() -> str:
            made.append(name)
            there.append(len(kept._values))
            return name * 2

        return kept.get(name, make)

    assert [ask(name) for name in "ababcac"] == ["aa", "bb", "aa", "bb", "cc", "aa", "cc"]
    assert made == ["a", "b", "c", "a"] and there == [0, 1, 1, 1]


def test_who_asks_while_another_makes_has_his_own() -> None:
    kept = Kept[str](1)
    assert kept.get("outer", lambda: "outer, not " + kept.get("inner", lambda: "inner")) == "outer, not inner"
    assert kept.get("outer", lambda: "made again") == "outer, not inner"


def test_a_part_has_its_gallery_though_another_thread_works_on_another_run_between_any_two_of_its_lines(
    tmp_path: Path,
) -> None:
    exchange, same = Exchange.below(str(tmp_path)), _sparse(eye_array(3, format="csr"))
    queries = exchange.share_arrays({"rows": np.eye(3, dtype=np.float32), **same})
    turned = np.eye(3, dtype=np.float32)[::-1]
    others = [exchange.share_arrays({"rows": turned * scale, **same}) for scale in (1, 2)]

    def rank(gallery: Handle) -> list[int]:
        ranks: list[int] = exchange.take_arrays(ranks_of_part(exchange, _ranks, queries, gallery, "cpu"))[
            "ranks"
        ].tolist()
        return ranks

    between = []
    with ThreadPoolExecutor(1) as thread:

        def trace(frame: FrameType, event: str, _: Any) -> Any:
            if frame.f_code is not ranks_of_part.__code__:
                return None
            if event == "line":
                between.append(thread.submit(rank, others[len(between) % 2]).result())
            return trace

        before = sys.gettrace()
        sys.settrace(trace)
        try:
            found = rank(queries)
        finally:
            sys.settrace(before)
    assert found == [1, 1, 1] and between == [[3, 1, 3]] * len(between) and between
