"""The infini-gram indexes (v4) that their authors publish on S3.

Names, addresses and numbers are those of the package's documentation: infini-gram.readthedocs.io, "Python Package",
"Pre-built Indexes". Sizes are in binary units, as there.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from memindex.errors import MemindexError
from memindex.near_names import did_you_mean

#: Anybody may read this bucket.
FREE = "infini-gram-lite"

_LLAMA = "Llama-2 (meta-llama/Llama-2-7b-hf)"
_OLMO = "OLMo (allenai/OLMo-7B)"
_GPT2 = "GPT-2 (gpt2)"

_S3_URL = re.compile(r"s3://([a-z0-9][a-z0-9.-]+[a-z0-9])/([^?#]*[^?#/])/?")


class Published(NamedTuple):
    """A published index.

    Attributes:
        name: The last part of its address.
        corpus: What it is of.
        tokenizer: What it was built with.
        documents: Documents, as published.
        tokens: Tokens, as published.
        size: Size of its files, as published.
        domain_path: Where the documents' metadata have a domain; None where that is not known.
        bucket: The S3 bucket. Of any but `FREE` the reader pays for the transfer, which takes an account.
    """

    name: str
    corpus: str
    tokenizer: str
    documents: int
    tokens: int
    size: str
    domain_path: str | None = None
    bucket: str = "infini-gram"

    @property
    def bytes(self) -> int:
        """Its size in bytes, as exact as it was published."""
        number, unit = self.size.split()
        return round(float(number) * 1024.0 ** (["KiB", "MiB", "GiB", "TiB"].index(unit) + 1))

    @property
    def url(self) -> str:
        """Its address."""
        return f"s3://{self.bucket}/index/{self.name}"


class Address(NamedTuple):
    """Where the files of an index are: keys in `bucket` that start with `prefix` and a slash."""

    name: str
    bucket: str
    prefix: str


_PILE = "meta.pile_set_name"
_ANNEAL = "dolmino-mix-1124 and post-training data"

PUBLISHED = (
    Published("v4_pileval_llama", "Pile (validation)", _LLAMA, 214_670, 393_769_120, "2.3 GiB", _PILE, FREE),
    Published("v4_pileval_gpt2", "Pile (validation)", _GPT2, 214_670, 383_326_404, "2.2 GiB", _PILE, FREE),
    Published("v4_dolmasample_olmo", "Dolma 1.6 sample", _OLMO, 13_095_416, 8_039_098_124, "53 GiB", None, FREE),
    Published("v4_dolma-v1_6-sample_llama", "Dolma 1.6 sample", _LLAMA, 13_095_416, 9_178_218_956, "62 GiB"),
    Published("v4_olmo-2-0325-32b-anneal-adapt_llama", _ANNEAL, _LLAMA, 82_461_386, 35_153_386_430, "268 GiB"),
    Published("v4_olmoe-0125-1b-7b-anneal-adapt_llama", _ANNEAL, _LLAMA, 82_513_183, 35_262_277_074, "269 GiB"),
    Published("v4_olmo-2-1124-13b-anneal-adapt_llama", _ANNEAL, _LLAMA, 82_534_460, 35_273_912_238, "269 GiB"),
    Published("v4_c4train_llama", "C4 (train)", _LLAMA, 364_868_892, 198_079_554_945, "1.3 TiB"),
    Published("v4_olmoe-mix-0924-nodclm_llama", "OLMoE mix", _LLAMA, 133_343_623, 233_848_504_469, "1.8 TiB"),
    Published("v4_piletrain_llama", "Pile (train)", _LLAMA, 210_607_728, 383_299_322_520, "2.5 TiB", _PILE),
    Published("v4_rpj_llama_s4", "RedPajama", _LLAMA, 931_361_530, 1_385_942_948_192, "8.9 TiB"),
    Published("v4_dolma-v1_7_llama", "Dolma 1.7", _LLAMA, 3_403_336_408, 2_604_642_372_173, "20 TiB"),
    Published("v4_olmoe-mix-0924-dclm_llama", "DCLM", _LLAMA, 2_948_096_911, 4_341_627_197_578, "33 TiB"),
)


def published(name: str) -> Published | None:
    """The published index of that name, or None."""
    return next((index for index in PUBLISHED if index.name == name), None)


def find_address(name: str) -> Address:
    """Where an index is, by its published name or as s3://bucket/prefix.

    Raises:
        MemindexError: Neither; or an index that nobody may read without an account.
    """
    url = _S3_URL.fullmatch(name)
    if url:
        return Address(url[2].rpartition("/")[2], url[1], url[2])
    index = published(name)
    if index is None:
        near = did_you_mean(name, [index.name for index in PUBLISHED])
        known = near or f"known: {', '.join(index.name for index in PUBLISHED if index.bucket == FREE)}"
        raise MemindexError(
            f"no published index {name!r}; {known}{'' if near else '.'} Any public s3://bucket/prefix can be pulled too"
        )
    if index.bucket != FREE:
        raise MemindexError(
            f"{name} ({index.size}): readers of {index.url} pay for the transfer, which takes an AWS account: "
            f"aws s3 cp --request-payer requester --recursive {index.url} {name}; then: memindex index open {name}"
        )
    return Address(name, index.bucket, f"index/{name}")
