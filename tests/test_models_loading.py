"""Loading: facts for the table `models`, and one clear line when a model can't be had."""

import json

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from memindex.errors import MemindexError  # noqa: E402
from memindex.models.architectures import build_model  # noqa: E402
from memindex.models.loading import load_model  # noqa: E402
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


def test_a_missing_model_is_refused(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(MemindexError, match="can't load the model"):
        load_model("nobody/no-such-model")


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
