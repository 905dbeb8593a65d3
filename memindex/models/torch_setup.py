"""What has to happen before torch is imported; the modules that import it import this one first.

Without the extra `models` that is the error that says how to get it.
"""

from __future__ import annotations

import os

from memindex.extras import require

require("models")

# torch's OpenMP threads spin for milliseconds at every barrier. Where another program uses one of the cores, that
# makes small models several times slower; a short spin costs nothing on an idle machine. libgomp reads this once,
# when torch is imported.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")
