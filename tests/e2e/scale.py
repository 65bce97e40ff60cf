"""How often the long tests try what they try: as often as was promised, or, with KODA_E2E=short, as CI has time for.

A short run leaves out repetitions, and no kind of test; of the two kinds of clusters it starts one.
"""

from __future__ import annotations

import os

SHORT = os.environ.get("KODA_E2E") == "short"
