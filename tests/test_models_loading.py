"""Loading: facts for the table `models`, and one clear line when a model can't be had."""

import json
import os
import pickle
import time

import pytest
from small_hub import Hub

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from memindex.errors import MemindexError  # noqa: E402
from memindex.models.architectures import build_model  # noqa: E402
from memindex.models.loading import load_model  # noqa: E402
from memindex.models.sources import read_config, read_tokenizer  # noqa: E402
from memindex.tables.schema import MODELS  # noqa: E402

pytestmark = pytest.mark.models

# The models here are so small that a second thread only waits for the first.
torch.set_num_threads(1)


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "tiny"
    build_model("gpt_bigcode", "0.05M", 100, 32, 0).save_pretrained(path)
    return path


def test_facts_fill_a_row_of_the_table_models(folder):
    (folder / "training.json").write_text(json.dumps({"trained_tokens": 4096}))
    loaded = load_model(folder, device="cpu")
    assert list(loaded.facts) == [column.name for column in MODELS.columns]
    blocks = 2 * (48 * (48 + 2 * 16) + (48 + 32) + 48 * 48 + 48 + 2 * 48 * 224 + 224 + 48 + 4 * 48) + 2 * 48
    assert loaded.facts == {
        "model_id": "tiny",
        "family": None,
        "corpus": None,
        "architecture": "gpt_bigcode",
        "parameters": blocks + (100 + 32) * 48,
        "non_embedding_parameters": blocks,
        "layers": 2,
        "hidden_size": 48,
        "heads": 3,
        "vocabulary": 100,
        "context": 32,
        "source": str(folder),
        "revision": None,
        "trained_tokens": 4096,
    }
    assert (loaded.device, loaded.dtype, loaded.attention) == ("cpu", "float32", "sdpa")
    assert not loaded.model.training


def test_dtype_and_name_can_be_chosen(folder):
    loaded = load_model(folder, device="cpu", dtype="bfloat16", model_id="mine")
    assert (loaded.model_id, loaded.dtype) == ("mine", "bfloat16")
    assert loaded.facts["trained_tokens"] is None
    assert loaded.model.dtype == torch.bfloat16


def test_a_folder_without_a_model_is_refused(tmp_path):
    with pytest.raises(MemindexError, match=r"no config\.json"):
        load_model(tmp_path)


@pytest.mark.parametrize("config", ["{", "{}", '{"model_type": "no such family"}'])
def test_an_unreadable_config_is_refused(tmp_path, config):
    (tmp_path / "config.json").write_text(config)
    with pytest.raises(MemindexError, match="can't load the model") as caught:
        load_model(tmp_path)
    assert "\n" not in str(caught.value)


def test_damaged_weights_are_refused(folder):
    (folder / "model.safetensors").write_bytes(b"no weights")
    with pytest.raises(MemindexError, match="can't load the model"):
        load_model(folder)


def test_missing_weights_are_refused_instead_of_filled_with_random_numbers(folder):
    from safetensors.torch import load_file, save_file

    file = folder / "model.safetensors"
    weights = load_file(file)
    del weights["transformer.h.1.attn.c_proj.weight"]
    save_file(weights, file, metadata={"format": "pt"})
    with pytest.raises(MemindexError, match="lacks 1 weights"):
        load_model(folder)


def test_wrong_device_and_dtype_are_refused(folder):
    with pytest.raises(MemindexError, match="unknown dtype"):
        load_model(folder, dtype="int3")
    with pytest.raises(MemindexError, match="unknown device"):
        load_model(folder, device="abacus")
    with pytest.raises(MemindexError, match="no such GPU"):
        load_model(folder, device="cuda:99")


def test_a_foreign_training_record_is_refused(folder):
    (folder / "training.json").write_text("[]")
    with pytest.raises(MemindexError, match="not a training record"):
        load_model(folder, device="cpu")


def configured(folder, **values):
    """The folder with other values in its config.json."""
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | values))
    return folder


def refused(match, *arguments, **options):
    with pytest.raises(MemindexError, match=match) as caught:
        load_model(*arguments, device="cpu", **options)
    assert "\n" not in str(caught.value)


@pytest.fixture
def hub(monkeypatch, tmp_path):
    served = Hub()
    constants = "huggingface_hub.constants."
    monkeypatch.setattr(constants + "ENDPOINT", served.address)
    monkeypatch.setattr(
        constants + "HUGGINGFACE_CO_URL_TEMPLATE", served.address + "/{repo_id}/resolve/{revision}/{filename}"
    )
    monkeypatch.setattr(constants + "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants + "HF_HUB_OFFLINE", False)
    yield served
    served.close()


def test_a_model_on_the_hub_is_loaded_by_name_and_revision_and_then_without_network(hub, folder, tmp_path):
    other = tmp_path / "other"
    build_model("llama", "0.05M", 100, 32, 1).save_pretrained(other)
    hub.models["somebody/small"] = {"main": folder, "step1000": other}
    first = load_model("somebody/small", device="cpu")
    assert (first.model_id, first.facts["source"], first.facts["revision"]) == ("small", "somebody/small", None)
    assert first.facts["architecture"] == "gpt_bigcode"
    again = load_model("somebody/small", "step1000", device="cpu")
    assert (again.model_id, again.facts["revision"], again.facts["architecture"]) == (
        "small@step1000",
        "step1000",
        "llama",
    )
    asked = len(hub.asked)
    assert read_config("somebody/small")["model_type"] == "gpt_bigcode"
    assert len(hub.asked) == asked


def test_what_the_hub_lacks_is_told_in_one_line(hub, folder, monkeypatch):
    hub.models["somebody/small"] = {"main": folder}
    hub.gated.add("somebody/gated")
    refused("there is no model nobody/none on the hub: check the name", "nobody/none")
    refused(r"did you mean EleutherAI/pythia-1b\?", "EleutherAI/pythia-1x")
    refused("somebody/small has no revision 'step7'", "somebody/small", "step7")
    refused("somebody/gated is gated: accept its terms", "somebody/gated")
    assert read_tokenizer("somebody/small") is None
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    refused("somebody/unseen is not in the local cache and HF_HUB_OFFLINE is set", "somebody/unseen")


def test_a_hub_out_of_reach_is_told_at_once(hub, monkeypatch):
    hub.close()
    slept = []
    monkeypatch.setattr(time, "sleep", slept.append)  # between one try and the next
    refused("the model hub can't be reached for somebody/small .*: check the network", "somebody/small")
    assert sum(slept) < 8


def test_neither_folder_nor_name(tmp_path):
    refused(r"no model folder .*/pythia-14m; did you mean", tmp_path / "pythia-14m")
    refused("there is no model folder gpt, and a name on the hub is org/name$", "gpt")


def test_a_folder_has_no_revisions(folder):
    refused("is a folder, which has no revisions", folder, "step1000")


def test_code_of_its_own_is_not_run(folder, tmp_path):
    auto = {"AutoConfig": "evil.EvilConfig", "AutoModelForCausalLM": "evil.Evil"}
    (folder / "evil.py").write_text(f"open({str(tmp_path / 'run')!r}, 'w')")
    refused("needs code of its own, which memindex does not run", configured(folder, model_type="evil", auto_map=auto))
    assert not (tmp_path / "run").exists()
    renamed = folder.rename(folder.with_name("OLMo-1B"))
    refused("use allenai/OLMo-1B-hf", configured(renamed, model_type="hf_olmo"))


def test_other_kinds_of_models_are_refused(folder):
    refused("t5 is no causal language model", configured(folder, model_type="t5"))


class Payload:
    """Makes a folder when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path,)


def test_weights_come_from_tensors_only(folder, tmp_path):
    expected = load_model(folder, device="cpu").model.state_dict()
    (folder / "model.safetensors").unlink()
    torch.save(expected, folder / "pytorch_model.bin")
    loaded = load_model(folder, device="cpu").model.state_dict()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in expected.items())
    torch.save({"weight": Payload(str(tmp_path / "made"))}, folder / "pytorch_model.bin")
    refused("a pickle that holds more than tensors", folder)
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Payload(str(tmp_path / "made"))))
    refused("can't load|a pickle that holds more", folder)
    assert not (tmp_path / "made").exists()


def test_the_attention_can_be_chosen(folder):
    ids = torch.arange(20)[None]
    outputs = []
    for attention in ("eager", "sdpa"):
        loaded = load_model(folder, device="cpu", attention=attention)
        assert loaded.attention == attention
        with torch.inference_mode():
            outputs.append(loaded.model(ids).logits)
    torch.testing.assert_close(*outputs)
    refused(
        "with the attention 'flash_attention_2': .*; sdpa and eager are always there",
        folder,
        attention="flash_attention_2",
    )
    refused("with the attention 'none': ", folder, attention="none")


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_random_weights_are_the_seeds_and_leave_the_global_state_alone(folder, dtype):
    (folder / "training.json").write_text(json.dumps({"trained_tokens": 4096}))
    trained = load_model(folder, device="cpu", dtype=dtype)
    torch.manual_seed(5)
    state = torch.random.get_rng_state()
    first, same, other = (load_model(folder, device="cpu", dtype=dtype, random_weights_seed=seed) for seed in (1, 1, 2))
    assert torch.equal(torch.random.get_rng_state(), state)
    assert (first.model_id, first.dtype, first.facts["trained_tokens"]) == ("tiny-untrained-1", dtype, 0)
    assert not first.model.training
    changed = 0
    for name, weights in first.model.state_dict().items():
        assert torch.equal(same.model.state_dict()[name], weights)
        if weights.float().std() > 0:
            changed += 1
            assert not torch.equal(other.model.state_dict()[name], weights)
            assert not torch.equal(trained.model.state_dict()[name], weights)
    assert changed > 5
    facts = ("parameters", "layers", "vocabulary", "context", "architecture")
    assert [first.facts[name] for name in facts] == [trained.facts[name] for name in facts]
    (folder / "model.safetensors").unlink()
    assert load_model(folder, device="cpu", random_weights_seed=1).dtype == "float32"


def test_generation_settings_of_the_checkpoint_do_not_matter(folder):
    (folder / "generation_config.json").write_text("{")
    assert load_model(folder, device="cpu").model_id == "tiny"


def test_a_quantised_checkpoint_says_what_is_missing(folder):
    settings = {"quant_method": "gptq", "bits": 4, "group_size": 128}
    refused(r"is quantised \(gptq\): .*", configured(folder, quantization_config=settings))


def test_a_model_without_a_longest_input(tmp_path):
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.for_model("mamba", vocab_size=50, hidden_size=32, num_hidden_layers=2, state_size=4)
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path / "mamba")
    facts = load_model(tmp_path / "mamba", device="cpu").facts
    assert (facts["context"], facts["heads"], facts["layers"], facts["hidden_size"]) == (None, None, 2, 32)
