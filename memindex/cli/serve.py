"""`memindex serve`: the HTTP service."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import click

from memindex.cli.index_path import INDEX
from memindex.errors import MemindexError
from memindex.extras import missing
from memindex.server.config import ABOUT, Limits, ServerConfig, by_name, read_api_keys
from memindex.server.hosts import allowed_at, is_loopback
from memindex.server.log import log, open_closed_streams


def limit_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """An option for every field of `Limits`; the largest that is asked for in all is 2^48."""
    defaults = Limits()
    for limit in reversed(fields(Limits)):
        default = getattr(defaults, limit.name)
        whole = isinstance(default, int)
        kind = click.IntRange(1, 1 << 48) if whole else click.FloatRange(0, 86_400, min_open=True)
        # The number of processors is another one on every machine.
        shown: bool | str = "number of CPUs" if limit.name == "max_concurrent" else True
        option = click.option(
            f"--{limit.name.replace('_', '-')}",
            type=kind,
            default=default,
            show_default=shown,
            help=ABOUT[limit.name],
            metavar="N",
        )
        command = option(command)
    return command


@click.command()
@click.option(
    "-i",
    "--index",
    "indexes",
    multiple=True,
    envvar="MEMINDEX_INDEX",
    type=INDEX,
    help="Directory or name of an index; several with several -i.  [default: those of the studies]",
)
@click.option(
    "-s",
    "--study",
    "studies",
    multiple=True,
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Directory of a study; several with several -s.",
)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen at; 0.0.0.0 is every one.")
@click.option("--port", type=click.IntRange(0, 65535), default=8080, show_default=True, help="0 takes a free one.")
@click.option("--api-key-file", type=click.Path(path_type=Path), help="Keys, one a line; requests must carry one.")
@click.option("--cors-origin", "cors_origins", multiple=True, help="An origin whose pages may ask, as https://x.org.")
@click.option(
    "--allowed-host",
    "allowed_hosts",
    multiple=True,
    metavar="NAME",
    help="A name that requests may ask under, besides localhost; * for any.  "
    "[default: none at an address of this machine alone, else any]",
)
@limit_options
def serve(
    indexes: tuple[str, ...],
    studies: tuple[Path, ...],
    host: str,
    port: int,
    api_key_file: Path | None,
    cors_origins: tuple[str, ...],
    allowed_hosts: tuple[str, ...],
    **limits: Any,
) -> None:
    """Serve indexes over HTTP: infini-gram's API at /, our own at /v1.

    An index goes by the name of its directory. GET /openapi.json describes all routes, docs/http.md too. Only this
    machine can ask, unless --host says otherwise; then --api-key-file should name who may. Behind a proxy,
    --allowed-host names what the proxy is called. A request that meets a limit is told which one.

    Stop it with Ctrl-C or SIGTERM: requests under way are answered first, for --max-stop-seconds at most; others get
    503. A second Ctrl-C or SIGTERM stops it at once.

    \b
    Examples:
      memindex serve -i pile
      memindex serve -i pile -i dolma -s study --port 9000
      memindex serve -s study
      memindex serve -i pile --host 0.0.0.0 --api-key-file keys.txt
      curl localhost:8080/v1/indexes/pile/count -H 'Content-Type: application/json' -d '{"queries": [" the"]}'
      curl localhost:8080 -H 'Content-Type: application/json' -d '{"index": "pile", "query_type": "ntd", "query": "by"}'
    """
    open_closed_streams()
    keys = read_api_keys(api_key_file) if api_key_file else ()
    paths = tuple(Path(index) for index in indexes) or _indexes_of(studies)
    # Before anything is loaded: names that no request could tell apart.
    by_name("indexes", paths)
    by_name("studies", studies)
    hosts = allowed_at(host, allowed_hosts)
    config = ServerConfig(paths, studies, Limits(**limits), keys, cors_origins, hosts)
    _run(config, host, port)


def _indexes_of(studies: tuple[Path, ...]) -> tuple[Path, ...]:
    """The indexes that studies name and that are there, each once."""
    if not studies:
        raise MemindexError("name an index to serve (-i INDEX), or a study (-s STUDY)")
    from memindex.study.config import load_study

    named = dict.fromkeys(path for study in studies for path in load_study(study).indexes().values())
    return tuple(path for path in named if path.is_dir())


def _run(config: ServerConfig, host: str, port: int) -> None:
    try:
        from memindex.server.app import make_app
        from memindex.server.connections import http_server
    except ImportError as error:
        package = (error.name or "").partition(".")[0]
        if package in {"", "memindex"}:
            raise
        raise missing(package, "serving", "server") from None
    app = make_app(config)
    if not config.api_keys and not is_loopback(host):
        log(f"everybody who reaches {host} may ask: --api-key-file would name who may")
    server = http_server(app, config.limits)
    with _listen(host, port) as listening:
        address, bound = listening.getsockname()[:2]
        shown = f"[{address}]" if ":" in address else address
        log(f"serving {_named(config)} at http://{shown}:{bound}")
        try:
            server.run(sockets=[listening])
        except KeyboardInterrupt:
            log("stopped")
            # Python itself would wait for lookups that are under way, whose requests were given up.
            os._exit(130)
    if not server.started:
        raise MemindexError("the server did not start; its log says why")


def _named(config: ServerConfig) -> str:
    """What is served: indexes by their names alone, studies called so."""
    indexes, studies = by_name("indexes", config.indexes), by_name("studies", config.studies)
    parts = [", ".join(indexes)] if indexes else []
    if studies:
        parts.append(f"{'study' if len(studies) == 1 else 'studies'} {', '.join(studies)}")
    return " and ".join(parts)


def _listen(host: str, port: int) -> socket.socket:
    listening = None
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        # With the protocol by name: else asyncio leaves Nagle's algorithm on, and every answer waits 40 ms.
        listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen(2048)
    except OSError as error:
        if listening is not None:
            listening.close()
        raise MemindexError(f"can't listen at {host}, port {port}: {error.strerror or error}") from None
    return listening
