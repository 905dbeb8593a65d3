"""Extras: the optional packages, which extra brings each, and the command that installs it here.

memindex may come from an index of packages, from a wheel, or from a clone that no index knows: the command names the
place that this installation came from.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from memindex.errors import MissingExtraError

if TYPE_CHECKING:
    from importlib.metadata import Distribution

#: The extra that brings each optional package, by the name that is imported.
EXTRAS = {
    "torch": "models",
    "transformers": "models",
    "fastapi": "server",
    "prometheus_client": "server",
    "starlette": "server",
    "uvicorn": "server",
    "aiohttp": "remote",
    "s3fs": "remote",
    "ray": "ray",
    "obstore": "s3",
}

_PROJECT = "memindex"


def require(extra: str) -> None:
    """Raise MissingExtraError where a package of an extra is not installed; imports none of them."""
    for package, brought_by in EXTRAS.items():
        if brought_by == extra and not _is_installed(package):
            raise missing(package)


def missing(package: str, purpose: str = "", extra: str | None = None) -> MissingExtraError:
    """The error for a package that is not installed.

    Args:
        package: The package, by the name that is imported.
        purpose: What needs it, e.g. "serving".
        extra: The extra that brings it; by default that of `EXTRAS`.
    """
    needed = f"{purpose} needs {package}, which is not installed" if purpose else f"{package} is not installed"
    return MissingExtraError(f"{needed}; run: {install_command(extra or EXTRAS[package])}")


def missing_extra_of(error: ImportError) -> MissingExtraError | None:
    """The error for an import that failed because an extra is not installed; None for all other failures."""
    package = (error.name or "").partition(".")[0]
    return missing(package) if package in EXTRAS and not _is_installed(package) else None


def install_command(extra: str) -> str:
    """The command that installs an extra into this environment, e.g. `pip install 'memindex[models]'`."""
    from importlib.metadata import PackageNotFoundError, distribution

    try:
        installed = distribution(_PROJECT)
    except PackageNotFoundError:
        installed = None
    return f"{_installer(installed)} install {_requirements(installed, extra)}"


def _installer(installed: Distribution | None) -> str:
    """Environments that uv made have no pip; its own takes the same arguments."""
    by_uv = installed is not None and (installed.read_text("INSTALLER") or "").strip() == "uv"
    return "uv pip" if by_uv and find_spec("pip") is None else "pip"


def _requirements(installed: Distribution | None, extra: str) -> str:
    """What to install: memindex with the extra, or the extra's packages where nobody knows where memindex came from."""
    import json
    from urllib.parse import unquote, urlsplit

    clone = Path(__file__).resolve().parents[1]
    if installed is None:
        return _quoted(f"{clone}[{extra}]") if _is_project(clone) else f"'{_PROJECT}[{extra}]'"
    origin = json.loads(installed.read_text("direct_url.json") or "null")
    if origin is None:
        return f"'{_PROJECT}[{extra}]'"
    if "vcs_info" in origin:
        vcs = origin["vcs_info"]
        return _quoted(f"{_PROJECT}[{extra}] @ {vcs['vcs']}+{origin['url']}@{vcs['commit_id']}")
    place = Path(unquote(urlsplit(origin["url"]).path))
    if urlsplit(origin["url"]).scheme != "file":
        return _quoted(f"{_PROJECT}[{extra}] @ {origin['url']}")
    if place.is_file() or _is_project(place):
        editable = "-e " if origin.get("dir_info", {}).get("editable") else ""
        return f"{editable}{_quoted(f'{place}[{extra}]')}"
    # The clone or the wheel is gone.
    return " ".join(_quoted(requirement) for requirement in _packages(installed, extra))


def _packages(installed: Distribution, extra: str) -> list[str]:
    """The requirements of an extra, as its metadata lists them."""
    found = []
    for requirement in installed.requires or ():
        package, _, marker = requirement.partition(";")
        # 'extra == "models"', in either kind of quotes, alone or behind other conditions.
        if marker.replace("'", '"').replace(" ", "").endswith(f'extra=="{extra}"'):
            found.append(package.strip())
    return found


def _is_project(folder: Path) -> bool:
    return (folder / "pyproject.toml").is_file()


def _is_installed(package: str) -> bool:
    # A folder of that name somewhere on the path is a package without a file of its own, and not what is meant.
    spec = find_spec(package)
    return spec is not None and spec.origin is not None


def _quoted(text: str) -> str:
    """In single quotes, as brackets need in most shells."""
    import shlex

    quoted = shlex.quote(text)
    return quoted if quoted.startswith("'") else f"'{quoted}'"
