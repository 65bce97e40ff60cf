"""Ranks of many queries in parts, each some queries against the whole gallery, by the workers of the run.

A part is cut where one process cuts its products, so that the scores, and with them the ranks, are the same.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from scipy.sparse import csr_array

from koda.parallel import Exchange, Handle, Kept, current, in_order
from koda.typing import IntArray

CHUNKS = 8  # products of a part
Ranks = Callable[[torch.Tensor, torch.Tensor, Any, Any], IntArray]


def ranked(
    ranks: Ranks, queries: torch.Tensor, gallery: torch.Tensor, answers: Any, items: Any, chunk: int
) -> IntArray:
    """Return the ranks of queries, by the workers of the run where it has some and the queries are many.

    Args:
        ranks: gives the ranks of (queries, gallery, answers, items); of a module that workers can import.
        queries: (q, d), gallery: (n, d); rows of norm 1.
        answers: (q, t) sparse, items: (t, n) sparse.
        chunk: queries that it multiplies at a time.

    Raises:
        KodaError: no worker can finish a part.
    """
    workers, rows = current(), CHUNKS * chunk
    if workers is None or len(queries) <= rows:
        return ranks(queries, gallery, answers, items)
    exchange, answers = workers.exchange, csr_array(answers)
    whole = exchange.put_arrays({"rows": gallery.cpu().numpy(), **_sparse(csr_array(items))})
    handed_out: deque[Handle] = deque()

    def parts() -> Iterator[tuple[Any, ...]]:
        for first in range(0, len(queries), rows):
            cut = slice(first, first + rows)
            some = {"rows": queries[cut].cpu().numpy(), **_sparse(answers[cut])}
            handed_out.append(exchange.put_arrays(some))
            yield exchange, ranks, handed_out[-1], whole, str(queries.device)

    found = []
    for handle in in_order(workers, ranks_of_part, parts()):
        found.append(exchange.take_arrays(handle)["ranks"])
        exchange.drop(handed_out.popleft())
    exchange.drop(whole)
    result: IntArray = np.concatenate(found)
    return result


def ranks_of_part(exchange: Exchange, ranks: Ranks, queries: Handle, gallery: Handle, device: str) -> Handle:
    """Rank the answers to some queries; the work of one part.

    Args:
        exchange: where the embeddings lie, and the ranks are left.
        ranks: as for :func:`ranked`.
        queries: rows and what is right for each.
        gallery: rows and where it stands among them.
        device: on which the scores are made.

    Raises:
        MachineError: a handle names nothing.
    """
    asked = exchange.get_arrays(queries)
    whole = _galleries.get(gallery.digest, lambda: exchange.get_arrays(gallery))
    tensors = [torch.from_numpy(arrays["rows"]).to(device) for arrays in (asked, whole)]
    return exchange.put_arrays({"ranks": ranks(tensors[0], tensors[1], _unsparse(asked), _unsparse(whole))})


_galleries: Kept[dict[str, np.ndarray]] = Kept(1)


def _sparse(matrix: Any) -> dict[str, np.ndarray]:
    shape = np.array(matrix.shape, dtype=np.int64)
    return {"data": matrix.data, "indices": matrix.indices, "indptr": matrix.indptr, "shape": shape}


def _unsparse(arrays: dict[str, np.ndarray]) -> Any:
    return csr_array((arrays["data"], arrays["indices"], arrays["indptr"]), shape=tuple(arrays["shape"].tolist()))
