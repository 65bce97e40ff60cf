"""Words of the first page that not every reader knows: each is put in plain words where it first stands."""

from __future__ import annotations

import re
from collections.abc import Callable

from markupsafe import Markup, escape

_THINGS = r"(?: (?:<em><bdi>[^<]*</bdi></em> )?(?:pictures?|captions?))"
_DEPTHS = re.compile(r"R@([0-9]+)")
# tags, and what stands apart in its own direction: names and values of the data, which are nobody's terms
_NAMES = re.compile(r"<bdi>.*?</bdi>|<[^>]*>", re.DOTALL)


def _among_the_first(said: str) -> str:
    depths = _DEPTHS.findall(said)
    if depths == ["1"]:
        return "own partner ranked first"
    return f"own partner among the first {', '.join(depths)}"


# what is looked for, and what is put in brackets after it
_GLOSSES: tuple[tuple[re.Pattern[str], str | Callable[[str], str]], ...] = (
    (re.compile(r"\bzero-shot\b(?: accuracy\b)?"), "class by its name alone"),
    (re.compile(rf"\bheld-out{_THINGS}\b|\bheld out\b(?! to confirm)"), "unseen by the search"),
    (re.compile(r"\bR@[0-9]+(?:(?:, | or )R@[0-9]+)*"), _among_the_first),
    (re.compile(r"\btop-1\b"), "right class ranked first"),
    (re.compile(r"\bfall of recall\b"), "own partner found less often"),
    (re.compile(r"\bshare (?:lost|gained)\b"), "its size as a tight group"),
    (re.compile(r"\bthemes?\b(?: confirmed\b)?"), "differences that share samples"),
    # of retrieval there are directions too
    (
        re.compile(r"(?:[0-9][ \u00a0]|\bconfirmed )directions?\b(?: confirmed\b)?"),
        "contrasts of two groups of samples",
    ),
)


class Glosses:
    """Puts each word in plain words at its first use; made anew for each page."""

    def __init__(self) -> None:
        self._left = dict(enumerate(_GLOSSES))

    def __call__(self, said: str, *, last: bool = False) -> Markup:
        """Return a text of the first page with what its new words mean in brackets behind them.

        Args:
            said: text, or markup of our own; only text is escaped.
            last: whether all of that stands behind the text, which is short, each with its word.
        """
        page, behind = str(escape(said)), []
        for number, (pattern, meaning) in list(self._left.items()):
            if (found := _first_use(pattern, page)) is None:
                continue
            words = meaning if isinstance(meaning, str) else meaning(found[0])
            if last:
                behind.append(f"{found[0]}: {words}")
            else:
                page = f"{page[: found.end()]} {_in_brackets(words)}{page[found.end() :]}"
            del self._left[number]
        return Markup(f"{page} {_in_brackets('; '.join(behind))}" if behind else page)


def _first_use(pattern: re.Pattern[str], page: str) -> re.Match[str] | None:
    """Return the first use of a word that does not begin within a tag or a name of the data."""
    names = [found.span() for found in _NAMES.finditer(page)]
    uses = pattern.finditer(page)
    return next((use for use in uses if not any(start < use.start() < end for start, end in names)), None)


def _in_brackets(words: str) -> str:
    return f'<span class="gloss">({words})</span>'
