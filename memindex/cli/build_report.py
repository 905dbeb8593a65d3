"""What `memindex index build` and `add` print when they are done."""

from __future__ import annotations

import dataclasses
import json
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import click

from memindex.cli.index_scale import MOST_LINES, note_malformed
from memindex.index.manifest import SKIPPED_FILE

if TYPE_CHECKING:
    from memindex.index.builder import BuildReport


def print_build(out: str, report: BuildReport, as_json: bool, timing: bool = False) -> None:
    """Print what was built on stdout; what to type next, and the stages if asked for, on stderr."""
    from memindex.cli.output import note, print_table

    manifest = report.manifest
    if report.taken_over:
        note(f"took over {report.taken_over:,} units of work from a build that was stopped")
    if report.skipped.count:
        note_malformed(f"left out {report.skipped.count:,} malformed documents:", report.skipped.first)
        if report.skipped.count > MOST_LINES:
            note(f"  … all of them in {Path(out) / SKIPPED_FILE}")
    for changed in report.changed[:MOST_LINES]:
        note(f"warning: {changed}")
    if len(report.changed) > MOST_LINES:
        note(f"warning: {len(report.changed) - MOST_LINES:,} more files changed while they were indexed")
    if as_json:
        facts = {
            "index": out,
            "documents": manifest.documents,
            "tokens": manifest.tokens,
            "shards": manifest.shards,
            "skipped_documents": report.skipped.count,
            "skipped": report.skipped.first,
            "taken_over": report.taken_over,
            "changed_files": [dataclasses.asdict(changed) for changed in report.changed],
            "domains": {d.name: {"documents": d.documents, "tokens": d.tokens} for d in manifest.domains},
            "seconds": {stage.replace(" ", "_"): round(seconds, 3) for stage, seconds in report.seconds.items()},
            "peak_memory": report.peak_memory,
            "sorting_peak_memory": report.sorting_peak_memory,
        }
        click.echo(json.dumps(facts, ensure_ascii=False))
        return
    click.echo(f"{out}: {manifest.tokens:,} tokens in {manifest.documents:,} documents")
    if timing:
        rows = [[stage, seconds, _rate(manifest.tokens, seconds)] for stage, seconds in report.seconds.items()]
        print_table(["stage", "seconds", "M tokens/s"], rows, stderr=True)
    text = '"some text"' if manifest.tokenizer else "--ids 1,2,3"
    note(f"Next: memindex count -i {shlex.quote(out)} {text}")


def _rate(tokens: int, seconds: float) -> float | None:
    return round(tokens / seconds / 1e6, 1) if seconds > 0 else None
