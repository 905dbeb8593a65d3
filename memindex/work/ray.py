"""The Ray cluster that builds of indexes and runs of studies are given to."""

from __future__ import annotations

import logging
from typing import Any

from memindex import _core
from memindex.extras import missing


def ray_cluster() -> Any:
    """Ray, connected to the cluster that RAY_ADDRESS or the machine names; without one it is started here.

    Raises:
        MissingExtraError: Ray is not installed.
    """
    try:
        import ray  # type: ignore[import-not-found, unused-ignore]
    except ImportError:
        raise missing("ray") from None
    if not ray.is_initialized():
        ray.init(log_to_driver=False, include_dashboard=False, logging_level=logging.ERROR)
    # Ray takes over the signal by which an open index learns that its file shrank.
    _core.watch_reads()
    return ray
