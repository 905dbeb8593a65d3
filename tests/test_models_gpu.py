"""Scoring on a GPU: CUDA graphs, compiled layers, the kernel and running out of memory give what `generate` gives."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from memindex.models import cross_entropy, slot_engine, training, training_steps  # noqa: E402
from memindex.models.architectures import ARCHITECTURES, build_model  # noqa: E402
from memindex.models.loading import LoadedModel  # noqa: E402
from memindex.models.scoring import Decoding, Scorer, score_sequences  # noqa: E402
from memindex.models.training import TrainingConfig, train  # noqa: E402

pytestmark = [
    pytest.mark.models,
    pytest.mark.usefixtures("exact_float32"),
    pytest.mark.skipif(
        not torch.cuda.is_available(), reason="there is no GPU here: CUDA graphs and kernels are not run"
    ),
]

ROWS, PREFIX, SUFFIX, VOCABULARY = 600, 20, 24, 3000


def small(architecture, **changes):
    """A random model on the GPU, with logits far enough apart for continuations of some variety."""
    model = build_model(architecture, "0.5M", VOCABULARY, 64, 0).eval()
    with torch.no_grad():
        model.get_output_embeddings().weight.mul_(3)
    for name, value in changes.items():
        setattr(model.config, name, value)
    model = model.cuda()
    config = model.config
    facts = {"vocabulary": VOCABULARY, "context": 64, "layers": config.num_hidden_layers}
    facts["hidden_size"] = config.hidden_size
    return LoadedModel(model, architecture, torch.cuda.get_device_name(), "float32", "sdpa", facts)


def generated(model, prefixes):
    ids = torch.from_numpy(prefixes).cuda()
    wanted = transformers.GenerationConfig(do_sample=False, max_new_tokens=SUFFIX, pad_token_id=0)
    with torch.inference_mode():
        out = model.generate(ids, attention_mask=torch.ones_like(ids), generation_config=wanted)
    return out[:, PREFIX:].cpu().numpy()


def mixed(expected):
    """Suffixes that the model leaves at every place, and some that it never leaves."""
    random = np.random.default_rng(1)
    suffixes = expected.copy()
    leaving = random.integers(0, SUFFIX + 8, len(suffixes))
    for row, place in enumerate(leaving):
        suffixes[row, place:] = random.integers(0, VOCABULARY, max(0, SUFFIX - place))
    return suffixes


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("compiled", [False, True])
def test_continuation_equals_generate(architecture, compiled, monkeypatch):
    if compiled and architecture in {"llama", "olmo", "starcoder2", "olmo2"}:
        pytest.skip("compiling takes long; the others have all that these have")
    loaded = small(architecture)
    prefixes = np.random.default_rng(0).integers(0, VOCABULARY, (ROWS, PREFIX))
    expected = generated(loaded.model, prefixes)
    suffixes = mixed(expected)
    monkeypatch.setattr(slot_engine, "_sizes", lambda *_: (128, 320))
    torch._dynamo.reset()
    scorer = Scorer(loaded, PREFIX, SUFFIX, compiled=compiled)
    for _ in range(2):
        scores = scorer.score(prefixes, suffixes)
        np.testing.assert_array_equal(scores.continuation, expected)
    assert isinstance(scorer._engine, slot_engine.SlotEngine)
    assert scorer.compiled is compiled
    assert 0.1 < scores.memorized.mean() < 0.5
    scorer.close()
    on_cpu = score_sequences(
        LoadedModel(loaded.model.cpu(), "cpu", "cpu", "float32", "sdpa", loaded.facts), prefixes, suffixes
    )
    np.testing.assert_allclose(scores.token_logprobs, on_cpu.token_logprobs, atol=1e-3)
    np.testing.assert_allclose(scores.suffix_logprob_top40, on_cpu.suffix_logprob_top40, atol=1e-3)
    assert (scores.token_ranks != on_cpu.token_ranks).mean() < 1e-3


def test_sampled_continuations_equal_those_of_the_cpu():
    loaded = small("llama")
    ids = np.random.default_rng(0).integers(0, VOCABULARY, (ROWS, PREFIX + SUFFIX))
    decoding = Decoding(seed=3, top_k=20)
    here = score_sequences(loaded, ids[:, :PREFIX], ids[:, PREFIX:], decoding=decoding)
    on_cpu = LoadedModel(loaded.model.cpu(), "cpu", "cpu", "float32", "sdpa", loaded.facts)
    there = score_sequences(on_cpu, ids[:, :PREFIX], ids[:, PREFIX:], decoding=decoding)
    assert (here.continuation == there.continuation).all(axis=1).mean() > 0.99


def test_rows_that_are_scored_survive_running_out_of_memory(monkeypatch):
    loaded = small("gpt_neox")
    prefixes = np.random.default_rng(0).integers(0, VOCABULARY, (ROWS, PREFIX))
    expected = generated(loaded.model, prefixes)
    suffixes = mixed(expected)
    monkeypatch.setattr(slot_engine, "_sizes", lambda *given: (given[-1] or 128, 2 * (given[-1] or 128)))
    real, calls = slot_engine.read, []

    def failing(model, unembed, tokens, *others):
        calls.append(len(tokens))
        if len(calls) == 4:
            raise torch.OutOfMemoryError
        return real(model, unembed, tokens, *others)

    monkeypatch.setattr(slot_engine, "read", failing)
    scores = score_sequences(loaded, prefixes, suffixes)
    np.testing.assert_array_equal(scores.continuation, expected)
    assert scores.batch_size == 64
    # Two batches were decoded before the third pair failed: those rows are not read again.
    assert sum(calls[4:]) < ROWS


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_recorded_steps_learn_as_plain_ones_do(architecture, tmp_path, monkeypatch):
    random = np.random.default_rng(0)
    file = tmp_path / "tokenized.0"
    random.integers(0, 50, 40_000).astype("<u2").tofile(file)
    records = {}
    for way in ("recorded", "one by one", "plain loss"):
        with monkeypatch.context() as patch:
            if way != "recorded":
                patch.setattr(training_steps, "_BEFORE", 1 << 30)
            if way == "plain loss":
                patch.setattr(cross_entropy, "_kernel", None)
            model = build_model(architecture, "0.1M", 300, 64, 0, eos_token_id=0)
            settings = TrainingConfig(60_000, 0, context=64, batch_size=32, learning_rate=3e-3, device="cuda")
            records[way] = train(model, [file], tmp_path / way, settings)
    losses = {way: np.array([loss for _, loss in record["loss_curve"]]) for way, record in records.items()}
    np.testing.assert_allclose(losses["recorded"], losses["one by one"], atol=0.02)
    np.testing.assert_allclose(losses["recorded"], losses["plain loss"], atol=0.02)
    # log(50) = 3.91 is what knowing the ids gives.
    assert losses["recorded"][-1] < 4.1


def test_a_stopped_training_goes_on_with_recorded_and_compiled_steps(tmp_path, monkeypatch):
    monkeypatch.setattr(training, "KEEP_EVERY", 0)
    file = tmp_path / "tokenized.0"
    np.random.default_rng(0).integers(0, 50, 40_000).astype("<u2").tofile(file)
    settings = TrainingConfig(
        60_000, 0, context=64, batch_size=32, learning_rate=3e-3, device="cuda", checkpoints=(30_000,), compiled=True
    )

    def trained(out, stop=None):
        model = build_model("llama", "0.1M", 300, 64, 0, eos_token_id=0)
        return train(model, [file], tmp_path / out, settings, stop)

    def stop(done, *_):
        if done > 40_000:
            raise KeyboardInterrupt

    whole = trained("whole")
    with pytest.raises(KeyboardInterrupt):
        trained("out", stop)
    resumed = trained("out")
    assert resumed["resumed_at"] and resumed["compiled"]
    assert (tmp_path / "out/checkpoints/step15/model.safetensors").is_file()
    curves = [np.array(record["loss_curve"]) for record in (whole, resumed)]
    np.testing.assert_allclose(curves[1], curves[0], atol=0.02)
