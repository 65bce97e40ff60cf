"""What a worker keeps of its last parts: the latest, and each part has what it asked for, whatever others ask for."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from koda.parallel import Kept


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


def test_threads_that_ask_for_different_values_at_once_have_each_its_own() -> None:
    kept = Kept[str](1)
    with ThreadPoolExecutor(4) as threads:
        names = [str(number % 3) for number in range(2000)]
        assert list(threads.map(lambda name: kept.get(name, lambda: f"value {name}"), names)) == [
            f"value {name}" for name in names
        ]
