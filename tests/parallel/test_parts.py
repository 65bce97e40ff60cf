"""A part at a worker: its software is compared, it has the threads of the run, and its errors come back in words."""

from __future__ import annotations

import dataclasses
import pickle
from pathlib import Path

import pytest
import torch

import koda.errors
from koda.errors import KodaError, MachineError, ModelError
from koda.parallel import Worksite, current, in_order, look_around, note_of_current, packed, using, work_on
from tests.parallel.here import Here


def test_a_part_has_the_threads_of_the_run_and_leaves_those_of_the_worker():
    before = torch.get_num_threads()
    site = dataclasses.replace(Worksite.of_this_process(), threads=before + 1)
    assert work_on(site, packed(torch.get_num_threads)) == before + 1
    assert torch.get_num_threads() == before


@pytest.mark.parametrize("name", ["koda", "Python", "torch"])
def test_a_worker_of_other_software_is_refused_before_it_works(name: str):
    site = Worksite.of_this_process()
    other = dataclasses.replace(site, software=tuple((n, "0.0" if n == name else v) for n, v in site.software))
    with pytest.raises(MachineError, match=rf"(?s)has {name} .*the run has 0\.0.*Install {name} 0\.0"):
        work_on(other, b"what no worker of the right software would read")


def every_error() -> list[type[KodaError]]:
    return [value for value in vars(koda.errors).values() if isinstance(value, type) and issubclass(value, KodaError)]


@pytest.mark.parametrize("kind", every_error())
def test_every_error_comes_back_as_it_is(kind: type[KodaError]):
    error = pickle.loads(pickle.dumps(kind("what is wrong", "what to do")))
    assert (type(error), str(error), error.exit_code) == (kind, "what is wrong\n  what to do", kind.exit_code)


def refuse(number: int) -> int:
    if number == 3:
        raise ModelError("the third is wrong")
    return number * number


def test_results_come_in_the_order_of_the_parts_and_an_error_in_its_place(tmp_path: Path):
    results = in_order(Here(tmp_path), refuse, [(n,) for n in range(5)], ahead=2)
    assert [next(results) for _ in range(3)] == [0, 1, 4]
    with pytest.raises(ModelError, match="the third is wrong"):
        next(results)


def test_a_worker_that_sees_the_exchange_answers_the_token(tmp_path: Path):
    here = Here(tmp_path)
    seen = here.submit(look_around, here.exchange, here.exchange.put(b"token"))()
    assert here.exchange.get(seen) == b"token seen"


def test_without_workers_the_record_says_threads(tmp_path: Path):
    assert (current(), note_of_current().kind) == (None, "threads")
    with using(here := Here(tmp_path)):
        assert (current(), note_of_current().kind) == (here, "dask")
        with using(None):
            assert note_of_current().kind == "threads"
