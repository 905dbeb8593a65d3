"""The model families whose training data is open, one row each: checkpoints, revisions, corpus, tokenizer.

Plain data, without torch. Numbers and names are those of the model cards and configurations on the hub; what those do
not tell is None. A family's name is also that of its tokenizer (`memindex.corpus.tokenizer.HUB_NAMES`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Checkpoint:
    """One published model.

    Attributes:
        name: Its name on the hub.
        parameters: All parameters; tied embeddings count once.
        non_embedding: Those outside the embeddings of tokens and positions.
        layers: Transformer blocks.
        hidden: Width of the residual stream.
        heads: Attention heads per layer.
        tokens: Tokens it was trained on, as published (mostly rounded).
        corpus: Where it is not the family's.
        tokenizer: Where it is not the family's.
    """

    name: str
    parameters: int
    non_embedding: int
    layers: int
    hidden: int
    heads: int
    tokens: int | None = None
    corpus: str | None = None
    tokenizer: str | None = None


@dataclass(frozen=True)
class Paths:
    """Where a transformers architecture keeps what probes hook; `attention_output` and `mlp` are paths in a layer."""

    embedding: str
    layers: str
    attention_output: str
    mlp: str
    final_norm: str
    unembedding: str


@dataclass(frozen=True)
class Family:
    """One series of published models.

    Attributes:
        name: Short name, as the tables say it.
        title: As people write it.
        architecture: transformers model type.
        corpus: What it was trained on.
        index: Name of the corpus's index recipe.
        tokenizer: Name that `load_tokenizer` takes.
        token_width: Bytes per token of an index with its tokenizer.
        context: Longest input of the checkpoints, in tokens; the shortest where they differ.
        revisions: How revisions of the hub repositories are called, for people; empty where there are none.
        revision_names: All of them, where they are known.
        revision_patterns: Their forms otherwise, with {…} for numbers.
        revision_tokens: Tokens seen at a revision, or None where its name does not tell.
        checkpoints: The published models.
    """

    name: str
    title: str
    architecture: str
    corpus: str
    index: str
    tokenizer: str
    token_width: int
    context: int
    revisions: str
    revision_tokens: Callable[[str], int | None]
    checkpoints: tuple[Checkpoint, ...]
    revision_names: tuple[str, ...] = ()
    revision_patterns: tuple[str, ...] = ()


#: Tokens per step of every Pythia model: 1,024 sequences of 2,048 (Biderman et al. 2023, arXiv 2304.01373).
PYTHIA_STEP = 2_097_152
#: The 154 steps that every Pythia model was saved at.
PYTHIA_STEPS = (0, *(2**power for power in range(10)), *range(1000, 143_001, 1000))


def _pythia_tokens(revision: str) -> int | None:
    match = re.fullmatch(r"step(\d+)", revision)
    return int(match[1]) * PYTHIA_STEP if match and int(match[1]) in PYTHIA_STEPS else None


def _olmo_tokens(revision: str) -> int | None:
    """`step1000-tokens4B`, in OLMo 2 `stage1-step10000-tokens21B`; its later stages count anew."""
    match = re.fullmatch(r"(?:stage1-)?step\d+-tokens(\d+)B", revision)
    return int(match[1]) * 10**9 if match else None


def _untold(revision: str) -> int | None:
    return None


_GATED = Paths("model.embed_tokens", "model.layers", "self_attn.o_proj", "mlp", "model.norm", "lm_head")

#: transformers model type -> paths of its modules. A tied model's `unembedding` shares the embedding's weight.
PATHS: dict[str, Paths] = {
    "gpt_neox": Paths(
        "gpt_neox.embed_in", "gpt_neox.layers", "attention.dense", "mlp", "gpt_neox.final_layer_norm", "lm_head"
    ),
    "gpt_bigcode": Paths("transformer.wte", "transformer.h", "attn.c_proj", "mlp", "transformer.ln_f", "lm_head"),
    "llama": _GATED,
    "olmo": _GATED,
    "olmo2": _GATED,
    "olmo3": _GATED,
    "starcoder2": _GATED,
}

_PYTHIA = (
    # size, parameters, non-embedding, layers, hidden, heads
    ("14m", 14_067_712, 1_189_888, 6, 128, 4),
    ("31m", 30_494_720, 4_739_072, 6, 256, 8),
    ("70m", 70_426_624, 18_915_328, 6, 512, 8),
    ("160m", 162_322_944, 85_056_000, 12, 768, 12),
    ("410m", 405_334_016, 302_311_424, 24, 1024, 16),
    ("1b", 1_011_781_632, 805_736_448, 16, 2048, 8),
    ("1.4b", 1_414_647_808, 1_208_602_624, 24, 2048, 16),
    ("2.8b", 2_775_208_960, 2_517_652_480, 32, 2560, 32),
    ("6.9b", 6_857_302_016, 6_444_163_072, 32, 4096, 32),
    ("12b", 11_846_072_320, 11_327_027_200, 36, 5120, 40),
)
_PYTHIA_TOKENS = PYTHIA_STEPS[-1] * PYTHIA_STEP


def _pythia_checkpoints() -> Iterator[Checkpoint]:
    for size, parameters, non_embedding, layers, hidden, heads in _PYTHIA:
        shape = (parameters, non_embedding, layers, hidden, heads, _PYTHIA_TOKENS)
        yield Checkpoint(f"EleutherAI/pythia-{size}", *shape)
        yield Checkpoint(f"EleutherAI/pythia-{size}-deduped", *shape, corpus="the Pile, deduplicated")


_T = 10**12
_V2 = {"tokenizer": "openlm-research/open_llama_3b_v2", "corpus": "RefinedWeb, StarCoderData and parts of RedPajama"}

FAMILIES: dict[str, Family] = {
    family.name: family
    for family in (
        Family(
            "pythia", "Pythia", "gpt_neox", "the Pile", "pile", "pythia", 2, 2048,
            "step0, step1, step2, step4, … step512, step1000, step2000, … step143000", _pythia_tokens,
            tuple(_pythia_checkpoints()), tuple(f"step{step}" for step in PYTHIA_STEPS),
        ),
        Family(
            "openllama", "OpenLLaMA", "llama", "RedPajama v1", "redpajama", "openllama", 2, 2048, "", _untold,
            (
                Checkpoint("openlm-research/open_llama_3b", 3_426_473_600, 3_221_673_600, 26, 3200, 32, _T),
                Checkpoint("openlm-research/open_llama_7b", 6_738_415_616, 6_476_271_616, 32, 4096, 32, _T),
                Checkpoint("openlm-research/open_llama_13b", 13_015_864_320, 12_688_184_320, 40, 5120, 40, _T),
                Checkpoint("openlm-research/open_llama_3b_v2", 3_426_473_600, 3_221_673_600, 26, 3200, 32, _T, **_V2),
                Checkpoint("openlm-research/open_llama_7b_v2", 6_738_415_616, 6_476_271_616, 32, 4096, 32, _T, **_V2),
            ),
        ),
        Family(
            "starcoder", "StarCoder", "gpt_bigcode", "StarCoderData (The Stack v1.2)", "the-stack", "starcoder",
            2, 8192, "", _untold,
            (
                Checkpoint("bigcode/starcoderbase-1b", 1_137_207_296, 1_019_766_784, 24, 2048, 16, _T),
                Checkpoint("bigcode/starcoderbase-3b", 3_043_311_104, 2_881_830_400, 36, 2816, 22, _T),
                Checkpoint("bigcode/starcoderbase-7b", 7_327_263_232, 7_092_382_208, 42, 4096, 32, _T),
                Checkpoint("bigcode/starcoderbase", 15_517_456_384, 15_165_134_848, 40, 6144, 48, _T),
                Checkpoint("bigcode/starcoder", 15_517_456_384, 15_165_134_848, 40, 6144, 48),
            ),
        ),
        Family(
            "starcoder2", "StarCoder2", "starcoder2", "The Stack v2", "the-stack-v2", "starcoder2",
            2, 16384, "", _untold,
            (
                Checkpoint("bigcode/starcoder2-3b", 3_030_371_328, 2_879_376_384, 30, 3072, 24),
                Checkpoint("bigcode/starcoder2-7b", 7_173_923_840, 6_947_431_424, 32, 4608, 36),
                Checkpoint("bigcode/starcoder2-15b", 15_957_889_024, 15_353_909_248, 40, 6144, 48),
            ),
        ),
        Family(
            "olmo-1", "OLMo 1", "olmo", "Dolma", "dolma", "olmo-1", 2, 2048,
            "step1000-tokens4B, …: step and tokens seen", _olmo_tokens,
            (
                Checkpoint("allenai/OLMo-1B-hf", 1_176_764_416, 1_073_741_824, 16, 2048, 16, 3 * _T),
                Checkpoint("allenai/OLMo-7B-hf", 6_888_095_744, 6_476_005_376, 32, 4096, 32, 25 * _T // 10),
                Checkpoint("allenai/OLMo-7B-Twin-2T-hf", 6_888_095_744, 6_476_005_376, 32, 4096, 32, 2 * _T),
                Checkpoint("allenai/OLMo-1B-0724-hf", 1_279_787_008, 1_073_741_824, 16, 2048, 16),
                Checkpoint("allenai/OLMo-7B-0424-hf", 6_888_095_744, 6_476_005_376, 32, 4096, 32),
            ), (), ("step{step}-tokens{billions}B",),
        ),
        Family(
            "olmo-2", "OLMo 2", "olmo2", "olmo-mix-1124 and dolmino-mix-1124", "olmo-mix-1124", "olmo-2", 4, 4096,
            "stage1-step10000-tokens21B, …: step and tokens seen; stage2-… count anew", _olmo_tokens,
            (
                Checkpoint("allenai/OLMo-2-0425-1B", 1_484_916_736, 1_073_874_944, 16, 2048, 16, 4 * _T),
                Checkpoint("allenai/OLMo-2-1124-7B", 7_298_617_344, 6_476_533_760, 32, 4096, 32, 4 * _T),
                Checkpoint("allenai/OLMo-2-1124-13B", 13_716_198_400, 12_688_593_920, 40, 5120, 40, 5 * _T),
                Checkpoint("allenai/OLMo-2-0325-32B", 32_234_279_936, 31_206_675_456, 64, 5120, 40, 6 * _T),
            ), (), ("stage{stage}-step{step}-tokens{billions}B",),
        ),
        Family(
            "olmo-3", "OLMo 3", "olmo3", "Dolma 3", "dolma-3", "olmo-3", 4, 65536,
            "stage1-step1000, …; stage2-…, stage3-…", _untold,
            (
                Checkpoint("allenai/Olmo-3-1025-7B", 7_298_011_136, 6_476_533_760, 32, 4096, 32),
                Checkpoint("allenai/Olmo-3-1125-32B", 32_233_522_176, 31_206_675_456, 64, 5120, 40),
            ), (), ("stage{stage}-step{step}",),
        ),
    )
}  # fmt: skip
