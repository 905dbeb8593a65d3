"""The table of families says what transformers builds, and its module paths lead to the right modules."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from click.testing import CliRunner  # noqa: E402

from memindex.cli import cli  # noqa: E402
from memindex.corpus.tokenizer import HUB_NAME, HUB_NAMES  # noqa: E402
from memindex.errors import MemindexError  # noqa: E402
from memindex.models.architectures import ARCHITECTURES, build_model, count_parameters  # noqa: E402
from memindex.models.families import FAMILIES, PATHS, PYTHIA_STEPS  # noqa: E402
from memindex.models.loading import load_model  # noqa: E402
from memindex.models.membership import family_of, find_instead, similar  # noqa: E402
from memindex.models.modules import modules_of  # noqa: E402

pytestmark = pytest.mark.models

torch.set_num_threads(1)

#: What the published configurations say beside the shape in the table, by checkpoint.
PADDED = {"EleutherAI/pythia-6.9b": 50432, "EleutherAI/pythia-12b": 50688}
VOCABULARIES = {
    "pythia": 50304,
    "openllama": 32000,
    "starcoder": 49152,
    "starcoder2": 49152,
    "olmo-1": 50304,
    "olmo-2": 100352,
    "olmo-3": 100278,
}
INNER = {
    "openlm-research/open_llama_3b": 8640,
    "openlm-research/open_llama_7b": 11008,
    "openlm-research/open_llama_13b": 13824,
    "allenai/OLMo-1B-hf": 8192,
    "allenai/OLMo-1B-0724-hf": 8192,
    "allenai/OLMo-2-0425-1B": 8192,
    "allenai/OLMo-2-1124-13B": 13824,
    "allenai/OLMo-2-0325-32B": 27648,
    "allenai/Olmo-3-1125-32B": 27648,
}
KEY_HEADS = {
    "bigcode/starcoder2-3b": 2,
    "bigcode/starcoder2-7b": 4,
    "bigcode/starcoder2-15b": 4,
    "allenai/OLMo-2-0325-32B": 8,
    "allenai/Olmo-3-1125-32B": 8,
}
TIED = {"bigcode/starcoder2-3b", "bigcode/starcoder2-7b", "allenai/OLMo-1B-hf"}


def published_config(family, checkpoint):
    name = checkpoint.name.removesuffix("-deduped").removesuffix("_v2")
    ungated = family.architecture in ("gpt_neox", "gpt_bigcode", "starcoder2")
    inner = 4 * checkpoint.hidden if ungated else INNER.get(name, 11008)
    values = {
        "vocab_size": PADDED.get(name, VOCABULARIES[family.name]),
        "num_hidden_layers": checkpoint.layers,
        "hidden_size": checkpoint.hidden,
        "num_attention_heads": checkpoint.heads,
        "num_key_value_heads": KEY_HEADS.get(name, checkpoint.heads),
        "max_position_embeddings": family.context,
        "tie_word_embeddings": name in TIED or family.architecture == "gpt_bigcode",
        ("n_inner" if family.architecture == "gpt_bigcode" else "intermediate_size"): inner,
    }
    if family.architecture in ("gpt_neox", "gpt_bigcode"):
        del values["num_key_value_heads"]
    return transformers.AutoConfig.for_model(family.architecture, **values, pad_token_id=None)


@pytest.mark.parametrize("family", FAMILIES.values(), ids=list(FAMILIES))
def test_parameters_are_those_of_the_published_shape(family):
    counted = {}
    for checkpoint in family.checkpoints:
        shape = (checkpoint.layers, checkpoint.hidden, checkpoint.parameters)
        if shape not in counted:
            with torch.device("meta"):
                model = transformers.AutoModelForCausalLM.from_config(published_config(family, checkpoint))
            counted[shape] = count_parameters(model)
        assert counted[shape] == (checkpoint.parameters, checkpoint.non_embedding), checkpoint.name


def test_the_table_is_whole():
    names = [c.name for f in FAMILIES.values() for c in f.checkpoints]
    assert len(names) == len(set(names)) == 44
    assert all(HUB_NAME.fullmatch(name) for name in names)
    assert {f.architecture for f in FAMILIES.values()} == set(PATHS) == set(ARCHITECTURES)
    for family in FAMILIES.values():
        assert family.tokenizer in HUB_NAMES
        assert HUB_NAMES[family.tokenizer] in [c.name for c in family.checkpoints]
        assert (family.token_width == 2) == (VOCABULARIES[family.name] <= 0xFFFF)
    assert len(PYTHIA_STEPS) == 154


@pytest.mark.parametrize("architecture", sorted(ARCHITECTURES))
@pytest.mark.parametrize("known", [True, False], ids=["by the table", "found"])
def test_modules_are_the_right_ones(architecture, known, monkeypatch):
    model = build_model(architecture, "0.05M", 100, 32, 0).eval()
    paths = PATHS[architecture]
    assert model.get_submodule(paths.embedding) is model.get_input_embeddings()
    assert model.get_submodule(paths.unembedding) is model.get_output_embeddings()
    if not known:
        # Not taken out of PATHS and put back, which would change its order for whoever reads it later.
        monkeypatch.setattr("memindex.models.modules.PATHS", {})
    found = modules_of(model)
    ids = torch.from_numpy(np.random.default_rng(0).integers(0, 100, (3, 9)))
    seen = {}
    parts = {"layer": found.layers[-1], "attention": found.attention_output[-1], "mlp": found.mlp[-1]}
    for name, module in parts.items():
        module.register_forward_hook(lambda _, given, out, name=name: seen.update({name: (given, out)}))
    with torch.inference_mode():
        logits = model(ids).logits
        hidden = seen["layer"][1]
        hidden = hidden[0] if isinstance(hidden, tuple) else hidden
        torch.testing.assert_close(found.unembedding(found.final_norm(hidden)), logits, rtol=0, atol=0)
    width = model.config.hidden_size
    assert len(found.layers) == len(found.attention_output) == len(found.mlp) == model.config.num_hidden_layers
    assert found.embedding(ids).shape == (3, 9, width)
    assert seen["attention"][0][0].shape == seen["attention"][1].shape == (3, 9, width)
    assert seen["mlp"][1].shape == (3, 9, width)


def test_an_unknown_architecture_says_which_parts_are_missing():
    config = transformers.AutoConfig.for_model(
        "gpt2", vocab_size=50, n_positions=16, n_embd=32, n_layer=2, n_head=2, bos_token_id=0, eos_token_id=0
    )
    found = modules_of(transformers.AutoModelForCausalLM.from_config(config))
    assert (len(found.layers), type(found.final_norm).__name__) == (2, "LayerNorm")
    config = transformers.AutoConfig.for_model(
        "mamba", vocab_size=50, hidden_size=32, num_hidden_layers=2, state_size=4, pad_token_id=None
    )
    with pytest.raises(MemindexError, match="where a mamba model keeps its attention output, mlp: add a row"):
        modules_of(transformers.AutoModelForCausalLM.from_config(config))


PYTHIA = {"model_type": "gpt_neox", "num_hidden_layers": 16, "hidden_size": 2048}


@pytest.mark.parametrize(
    ("source", "revision", "tokens"),
    [
        ("EleutherAI/pythia-1b", None, 299_892_736_000),
        ("EleutherAI/pythia-1b", "main", 299_892_736_000),
        ("EleutherAI/pythia-1b", "step0", 0),
        ("EleutherAI/pythia-1b", "step512", 512 * 2_097_152),
        ("EleutherAI/pythia-1b", "step143000", 299_892_736_000),
        ("EleutherAI/pythia-1b", "step3", None),
        ("EleutherAI/pythia-1b", "8c2b1d9", None),
        ("models/pythia-1b", None, None),
        ("models/pythia-1b-sft", None, None),
        ("cache/models--EleutherAI--pythia-1b/snapshots/8c2b1d9", None, None),
    ],
)
def test_a_pythia_is_known_by_its_name_and_shape(source, revision, tokens):
    member = family_of(source, PYTHIA)
    assert (member.family.name, member.corpus) == ("pythia", "the Pile")
    assert member.trained_tokens(revision) == tokens


def test_other_members_and_no_members():
    assert family_of("EleutherAI/pythia-1b-deduped-v0", PYTHIA).corpus == "the Pile, deduplicated"
    assert family_of("mine", PYTHIA | {"_name_or_path": "EleutherAI/pythia-1b"}).family.name == "pythia"
    assert family_of("mine", PYTHIA) is None
    assert family_of("EleutherAI/pythia-1b", PYTHIA | {"hidden_size": 64}) is None
    assert family_of("EleutherAI/pythia-1b", PYTHIA | {"model_type": "llama"}) is None
    code = family_of("bigcode/starcoderbase-1b", {"model_type": "gpt_bigcode", "n_layer": 24, "n_embd": 2048})
    assert (code.family.name, code.checkpoint.name) == ("starcoder", "bigcode/starcoderbase-1b")
    olmo = {"num_hidden_layers": 16, "hidden_size": 2048}
    first = family_of("allenai/OLMo-1B-hf", olmo | {"model_type": "olmo"})
    assert first.trained_tokens("step20000-tokens84B") == 84 * 10**9
    second = family_of("allenai/OLMo-2-0425-1B", olmo | {"model_type": "olmo2"})
    assert second.trained_tokens("stage1-step140000-tokens294B") == 294 * 10**9
    assert second.trained_tokens("stage2-ingredient1-step23852-tokens51B") is None
    assert find_instead("allenai/OLMo-1B") == "allenai/OLMo-1B-hf"
    assert find_instead("allenai/OLMo-2B") is None
    assert similar("pythia-1bb") == "EleutherAI/pythia-1b"
    assert similar("gpt-oss") is None


def test_a_published_model_gets_family_corpus_and_tokens(monkeypatch, tmp_path):
    model = build_model("gpt_neox", "0.05M", 100, 32, 0)
    # A folder of a published name, with the table cut to its size: only the name on the hub tells training tokens.
    small = FAMILIES["pythia"].checkpoints[0]
    shape = {"layers": model.config.num_hidden_layers, "hidden": model.config.hidden_size}
    checkpoint = type(small)(**(vars(small) | shape))
    family = type(FAMILIES["pythia"])(**(vars(FAMILIES["pythia"]) | {"checkpoints": (checkpoint,)}))
    monkeypatch.setitem(FAMILIES, "pythia", family)
    model.save_pretrained(tmp_path / "pythia-14m")
    facts = load_model(tmp_path / "pythia-14m", device="cpu").facts
    assert (facts["family"], facts["corpus"], facts["trained_tokens"]) == ("pythia", "the Pile", None)
    model.save_pretrained(tmp_path / "mine")
    facts = load_model(tmp_path / "mine", device="cpu").facts
    assert (facts["family"], facts["corpus"]) == (None, None)


def run(*arguments):
    return CliRunner().invoke(cli, ["models", *arguments])


def test_the_command_lists_families_and_checkpoints():
    listed = json.loads(run("--json").output)["families"]
    assert [one["family"] for one in listed] == list(FAMILIES)
    one = SimpleNamespace(**json.loads(run("olmo-2", "--json").output))
    assert (one.token_width, one.architecture) == (4, "olmo2")
    assert one.checkpoints[0]["parameters"] == 1_484_916_736
    assert one.modules["final_norm"] == "model.norm"
    table = run("pythia").output
    assert "EleutherAI/pythia-12b-deduped" in table
    assert "step143000" in table
    assert "StarCoder2" in run().output
    result = run("gpt")
    assert isinstance(result.exception, MemindexError)
    assert "there is no family gpt; known: pythia" in str(result.exception)
