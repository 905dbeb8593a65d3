"""Model runs: building, training, loading and scoring causal language models (needs the extra `models`).

Importing this package is cheap: it only looks whether the extra is installed. torch and transformers load with
the submodule that uses them (`architectures`, `training`, `loading`, `scoring`).
"""

from __future__ import annotations

import os
from importlib.util import find_spec

from memindex.errors import MissingExtraError

for _package in ("torch", "transformers"):
    if find_spec(_package) is None:
        raise MissingExtraError(f"{_package} is not installed; run: pip install 'memindex[models]'")

# torch's OpenMP threads spin for milliseconds at every barrier. Where another program uses one of the cores, that
# makes small models several times slower; a short spin costs nothing on an idle machine. libgomp reads this once,
# when torch is imported.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")
