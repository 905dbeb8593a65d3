"""Kinds of damage to the files of an index, each drawn at random: what a disk, a copy or a person can do to them."""

from __future__ import annotations

import json
from collections.abc import Callable
from enum import Enum

import numpy as np

from memindex.index.manifest import FILE, sealed

Files = dict[str, bytes]


class Instead(Enum):
    """What stands in the place of a file."""

    NOTHING = "nothing"
    DIRECTORY = "directory"
    PIPE = "pipe"
    LOOP = "loop"


#: What is changed: new contents by name.
Change = dict[str, bytes | Instead]


def draw(files: Files, twin: Files, random: np.random.Generator) -> tuple[str, Change]:
    """One kind of damage and what it changes; `twin` is an index of other text, with files of the same sizes."""
    while True:
        kind = str(random.choice(list(KINDS), p=np.array([weight for _, weight in KINDS.values()]) / WEIGHT))
        change = {name: new for name, new in KINDS[kind][0](files, twin, random).items() if files[name] != new}
        # Zeros written over zeros, or equal files exchanged, are no damage.
        if change:
            return kind, change


def _any_file(files: Files, random: np.random.Generator) -> str:
    return str(random.choice(sorted(name for name, content in files.items() if content)))


def one_bit(files: Files, twin: Files, random: np.random.Generator) -> Change:
    """One bit is another."""
    name = _any_file(files, random)
    content = bytearray(files[name])
    content[random.integers(len(content))] ^= 1 << int(random.integers(8))
    return {name: bytes(content)}


def burst(files: Files, twin: Files, random: np.random.Generator) -> Change:
    """Up to 64 bytes in a row are random."""
    name = _any_file(files, random)
    at = int(random.integers(len(files[name])))
    noise = random.bytes(int(random.integers(1, 65)))[: len(files[name]) - at]
    return {name: files[name][:at] + noise + files[name][at + len(noise) :]}


def zeroed_page(files: Files, twin: Files, random: np.random.Generator) -> Change:
    """A page of 4,096 bytes is zero."""
    name = _any_file(files, random)
    content = files[name]
    at = int(random.integers(-(-len(content) // 4096))) * 4096
    return {name: content[:at] + bytes(len(content[at : at + 4096])) + content[at + 4096 :]}


def truncated(files: Files, twin: Files, random: np.random.Generator) -> Change:
    """The end is missing: one byte, or any number."""
    name = _any_file(files, random)
    keep = len(files[name]) - 1 if random.random() < 0.3 else int(random.integers(len(files[name])))
    return {name: files[name][:keep]}


def extended(files: Files, twin: Files, random: np.random.Generator) -> Change:
    """Something follows the end: zeros, noise, or the file once more."""
    name = str(random.choice(sorted(files)))
    more = [bytes(int(random.integers(1, 5000))), random.bytes(int(random.integers(1, 100))), files[name] or b"\0"]
    return {name: files[name] + more[random.integers(3)]}


def swapped(files: Files, twin: Files, random: np.random.Generator) -> Change:
    """Two files of a kind or of a shard changed places, or one is another index's."""
    name = _any_file(files, random)
    kind, _, shard = name.partition(".")
    others = [other for other in files if other != name and (other.startswith(kind) or other.endswith(f".{shard}"))]
    if others and random.random() < 0.5:
        other = str(random.choice(sorted(others)))
        return {name: files[other], other: files[name]}
    return {name: twin[name]}


def mixed_shards(files: Files, twin: Files, random: np.random.Generator) -> Change:
    """Several files are those of another index, as after a copy that was broken off."""
    names = [name for name in files if name != FILE and random.random() < 0.5]
    return {name: twin[name] for name in names}


def no_file(files: Files, twin: Files, random: np.random.Generator) -> Change:
    """The file is missing, or something else has its name."""
    return {_any_file(files, random): list(Instead)[random.integers(len(Instead))]}


def false_manifest(files: Files, twin: Files, random: np.random.Generator) -> Change:
    """index.json is whole but says what is not so: another width, number of shards, domains, sizes."""
    if FILE not in files:
        return {}
    fields = json.loads(files[FILE])
    LIES[random.integers(len(LIES))](fields, random)
    return {FILE: sealed(fields)}


def _other_width(fields: dict, random: np.random.Generator) -> None:
    fields["token_width"] = int(random.choice([1, 2, 4]))


def _other_number(fields: dict, random: np.random.Generator) -> None:
    name = str(random.choice(["shards", "tokens", "documents", "domain_block"]))
    fields[name] = max(0, fields[name] + int(random.choice([-1, 1, 1000])))


def _fewer_shards(fields: dict, random: np.random.Generator) -> None:
    fields["shards"] = 1


def _exchanged_domains(fields: dict, random: np.random.Generator) -> None:
    names = [domain["name"] for domain in fields["domains"]]
    for domain, name in zip(fields["domains"], random.permutation(names), strict=True):
        domain["name"] = str(name)


def _renamed_domain(fields: dict, random: np.random.Generator) -> None:
    fields["domains"][random.integers(len(fields["domains"]))]["name"] += "x"


def _moved_tokens(fields: dict, random: np.random.Generator) -> None:
    fields["domains"][0]["tokens"] += 1
    fields["domains"][-1]["tokens"] -= 1


def _other_size(fields: dict, random: np.random.Generator) -> None:
    fields["files"][str(random.choice(sorted(fields["files"])))]["bytes"] += 1


def _other_checksum(fields: dict, random: np.random.Generator) -> None:
    names = sorted(name for name, facts in fields["files"].items() if facts["blake3"])
    if names:
        fields["files"][str(random.choice(names))]["blake3"] = random.bytes(32).hex()


LIES: list[Callable[[dict, np.random.Generator], None]] = [
    _other_width,
    _other_number,
    _fewer_shards,
    _exchanged_domains,
    _renamed_domain,
    _moved_tokens,
    _other_size,
    _other_checksum,
]

#: By name: the damage, and how often it is drawn.
KINDS: dict[str, tuple[Callable[[Files, Files, np.random.Generator], Change], int]] = {
    "one bit flipped": (one_bit, 30),
    "burst of up to 64 bytes": (burst, 15),
    "page of zeros": (zeroed_page, 10),
    "truncated": (truncated, 10),
    "extended": (extended, 5),
    "files swapped": (swapped, 12),
    "half of another index": (mixed_shards, 3),
    "missing, or no file": (no_file, 5),
    "false manifest": (false_manifest, 10),
}
WEIGHT = sum(weight for _, weight in KINDS.values())
