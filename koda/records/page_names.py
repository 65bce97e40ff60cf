"""Names of the pages of pictures beside a report, one a finding."""

from __future__ import annotations

import re

from koda.records.subsets import Subset
from koda.typing import SIDES

PAGES = "gallery-*.html"  #: finds them all, and files of others
_PAGE = re.compile(rf"gallery-({'|'.join(SIDES)})-[1-9][0-9]*\.html", re.ASCII)


def page_name(finding: Subset) -> str:
    """Return the name of the page with all pictures of a finding.

    >>> page_name(Subset("lost", 1))
    'gallery-lost-1.html'
    """
    return f"gallery-{str(finding).replace(' ', '-')}.html"


def is_page_name(name: str) -> bool:
    """Tell whether a file has the name of such a page.

    >>> is_page_name("gallery-gained-12.html"), is_page_name("gallery-holidays.html")
    (True, False)
    """
    return _PAGE.fullmatch(name) is not None
