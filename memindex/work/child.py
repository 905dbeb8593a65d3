"""The program of a `memindex.work.processes.Process`: `python -P child.py MODULE …`, with MEMINDEX_PATH set.

It takes the module search path of the process that starts it, and memindex from the package that this file is in,
whatever else is called so.
"""

from __future__ import annotations

import json
import os
import sys


def _load_memindex() -> None:
    from importlib.util import module_from_spec, spec_from_file_location

    # pathlib takes milliseconds to import.
    folder = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))  # noqa: PTH100, PTH120
    spec = spec_from_file_location(
        "memindex",
        os.path.join(folder, "__init__.py"),  # noqa: PTH118
        submodule_search_locations=[folder],
    )
    assert spec is not None
    assert spec.loader is not None
    sys.modules["memindex"] = module_from_spec(spec)
    spec.loader.exec_module(sys.modules["memindex"])


def main() -> None:
    """Run the module that the command line names, as `python -m` does."""
    import runpy

    sys.path[:] = json.loads(os.environ.pop("MEMINDEX_PATH"))
    _load_memindex()
    del sys.argv[0]
    try:
        runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
    except KeyboardInterrupt:
        # The process that started this one reports that it was stopped.
        sys.exit(130)


if __name__ == "__main__":
    main()
