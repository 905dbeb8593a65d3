"""Sorting one shard in a process of its own, which holds that shard and nothing else.

The process (`memindex.work.processes`) imports the compiled core only, so its memory is the suffix sorter's. It takes
the job on standard input, answers on standard output, and ends when its input closes: a killed build leaves no sorter
behind that would write into the next build's folder.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import IO, NamedTuple

from memindex import _core, errors
from memindex.index.checksums import checksums_of, write_record
from memindex.work.processes import Process


class SortJob(NamedTuple):
    """One shard to sort; fields as the arguments of `_core.sort_shard`, and then:

    Attributes:
        record: File that says that the shard is done, and holds the facts of its files; None writes none.
        memory: Bytes that the process will need at most, as far as can be told.
    """

    directory: Path
    shard: int
    token_width: int
    domain_of_document: bytes
    domains: int
    domain_block: int
    key_stride: int
    record: Path | None = None
    memory: int = 0


class Sorted(NamedTuple):
    """Tokens of the shard, seconds of sorting, writing and checksums, peak memory of the process in bytes."""

    tokens: int
    sort_seconds: float
    write_seconds: float
    checksum_seconds: float
    peak_memory: int


def sort_shard(job: SortJob, running: set[Process] | None = None) -> Sorted:
    """Sort a shard's suffixes and write its table, unigrams and domain column, in a new process.

    Args:
        job: The shard.
        running: Holds the process while it runs, for whoever wants to end it.

    Raises:
        MemindexError: The shard can't be sorted, or the process was killed.
        OSError: A file can't be read or written.
    """
    with Process("memindex.index.sorting") as process:
        assert process.stdin is not None
        assert process.stdout is not None
        running = set() if running is None else running
        running.add(process)
        try:
            _send(process.stdin, job)
            answer = process.stdout.read()
        except BaseException:
            process.kill()
            raise
        finally:
            running.discard(process)
        if not answer:
            raise errors.MemindexError(f"a sorting process {process.reason('use more --shards or less --memory')}")
    return _read_answer(answer)


def _send(stream: IO[bytes], job: SortJob) -> None:
    fields = job._asdict() | {"directory": str(job.directory), "domain_of_document": len(job.domain_of_document)}
    fields["record"] = str(job.record) if job.record else None
    try:
        stream.write(json.dumps(fields).encode() + b"\n" + job.domain_of_document)
        stream.flush()
    except BrokenPipeError:
        # The process died; its exit code says how. What is still in the buffer must not be sent when it is closed.
        with suppress(BrokenPipeError):
            stream.close()


def _read_answer(answer: bytes) -> Sorted:
    read = json.loads(answer)
    if "errno" in read:
        raise OSError(read["errno"], read["strerror"], read["filename"])
    if "error" in read:
        raise getattr(errors, read["class"])(read["error"])
    return Sorted(**read)


def main() -> None:
    """Be the sorting process."""
    job = _receive(sys.stdin.buffer)
    threading.Thread(target=_exit_at_end_of_input, daemon=True).start()
    answer: dict[str, object]
    try:
        answer = _sort(job)._asdict()
    except OSError as error:
        answer = {"errno": error.errno, "strerror": error.strerror, "filename": error.filename}
    except errors.MemindexError as error:
        answer = {"error": str(error), "class": type(error).__name__}
    print(json.dumps(answer), flush=True)
    # The watching thread still reads standard input, which the interpreter's shutdown would wait for.
    os._exit(0)


def _sort(job: SortJob) -> Sorted:
    tokens, sort_seconds, write_seconds = _core.sort_shard(*job[:7])
    start = time.perf_counter()
    files = checksums_of(job.directory.glob(f"*.{job.shard}")) if job.record else {}
    done = Sorted(tokens, sort_seconds, write_seconds, time.perf_counter() - start, peak_memory())
    if job.record:
        write_record(job.record, files, done._asdict())
    return done


def _receive(stream: IO[bytes]) -> SortJob:
    fields = json.loads(stream.readline())
    labels = stream.read(fields["domain_of_document"])
    record = Path(fields["record"]) if fields["record"] else None
    return SortJob(**fields | {"directory": Path(fields["directory"]), "domain_of_document": labels, "record": record})


def _exit_at_end_of_input() -> None:
    sys.stdin.buffer.read()
    os._exit(1)


def peak_memory() -> int:
    """Largest resident size of this process so far, in bytes.

    From /proc where there is one: getrusage would report the parent's peak, which a new process inherits.
    """
    try:
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        os._exit(130)
