"""Probes: measurements inside a model, on sequences it was scored on (needs the extra `models`).

One file per probe, each a function from a model and token ids to arrays. What of a study is probed, and where the
results go, is in `memindex.study.probing`.
"""

import memindex.models.torch_setup  # noqa: F401
