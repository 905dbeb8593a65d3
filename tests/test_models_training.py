"""Training: the windows are those of the stream, the order is the seed's, and `out` is whole or absent."""

import json
import subprocess
import sys

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from kernel_on_cpu import assert_equal, needs_triton  # noqa: E402

from memindex.errors import MemindexError  # noqa: E402
from memindex.models import training, training_steps  # noqa: E402
from memindex.models.architectures import build_model, count_parameters  # noqa: E402
from memindex.models.loading import load_model  # noqa: E402
from memindex.models.shapes import default_learning_rate  # noqa: E402
from memindex.models.stream import TokenStream  # noqa: E402
from memindex.models.training import (  # noqa: E402
    TrainingConfig,
    learning_rate_share,
    train,
)

pytestmark = pytest.mark.models

# The models here are so small that a second thread only waits for the first.
torch.set_num_threads(1)

EOS = 99


def write(path, ids, dtype="u2"):
    np.asarray(ids).astype(f"<{dtype}").tofile(path)
    return path


@pytest.fixture
def corpus(tmp_path):
    random = np.random.default_rng(0)
    parts = [np.concatenate([[0xFFFF], random.integers(0, 90, size=60)]) for _ in range(20)]
    return write(tmp_path / "tokenized.0", np.concatenate(parts))


def tiny(seed=0, architecture="llama"):
    return build_model(architecture, "0.05M", 100, 32, seed, eos_token_id=EOS)


def config(**change):
    return TrainingConfig(**({"tokens": 3000, "eos_token_id": EOS, "context": 32, "device": "cpu"} | change))


@pytest.mark.parametrize("dtype", ["u1", "u2", "u4"])
def test_windows_are_slices_of_the_joined_files(tmp_path, dtype):
    separator = np.iinfo(dtype).max
    random = np.random.default_rng(0)
    parts = [random.integers(0, 200, size=size) for size in (37, 0, 5, 100)]
    for part in parts:
        part[::11] = separator
    files = [write(tmp_path / f"tokenized.{i}", part, dtype) for i, part in enumerate(parts)]
    joined = np.concatenate(parts)
    joined[joined == separator] = EOS
    stream = TokenStream(files, dtype, EOS)
    assert len(stream) == 142
    starts = np.arange(142 - 20 + 1)
    expected = np.stack([joined[start : start + 20] for start in starts])
    np.testing.assert_array_equal(stream.windows(starts, 20), expected)


def test_every_pass_reads_every_token_once_in_the_seeds_order(tmp_path):
    stream = TokenStream([write(tmp_path / "t", np.zeros(1000))], "u2", EOS)
    starts = stream.starts(300, 20, seed=3)
    np.testing.assert_array_equal(stream.starts(100, 20, seed=3), starts[:100])
    assert not np.array_equal(stream.starts(100, 20, seed=4), starts[:100])
    # 51 or 52 windows of 19 targets make a pass over 1,000 ids; six passes or so.
    targets = (starts[:, None] + 1 + np.arange(19)).reshape(-1)
    assert targets.max() < 1000
    read = np.bincount(targets, minlength=1000)
    assert set(read[40:960].tolist()) <= {5, 6}
    assert not np.array_equal(np.sort(starts[:51]), starts[:51])


def test_a_stream_of_one_window_is_read_again_and_again(tmp_path):
    stream = TokenStream([write(tmp_path / "t", np.zeros(20))], "u2", EOS)
    assert stream.starts(3, 20, seed=0).tolist() == [0, 0, 0]


@pytest.mark.parametrize("batch_size", [3, 8])
def test_every_model_sees_the_same_tokens_in_the_same_order(corpus, tmp_path, monkeypatch, batch_size):
    seen = {}
    real = TokenStream.windows
    for name in ("llama", "gpt_neox"):

        def spy(self, starts, length, name=name):
            seen.setdefault(name, []).extend(starts.tolist())
            return real(self, starts, length)

        monkeypatch.setattr(TokenStream, "windows", spy)
        train(tiny(architecture=name), [corpus], tmp_path / name, config(batch_size=batch_size))
    assert seen["llama"] == seen["gpt_neox"]
    assert seen["llama"] == TokenStream([corpus], "u2", EOS).starts(3000 // 32, 33, 0).tolist()


def test_training_learns_and_is_deterministic(corpus, tmp_path):
    wanted = config(tokens=20_000, batch_size=8, learning_rate=1e-2)
    first = train(tiny(), [corpus], tmp_path / "a", wanted)
    again = train(tiny(), [corpus], tmp_path / "b", wanted)
    assert first["loss_curve"] == again["loss_curve"]
    assert (tmp_path / "a/model.safetensors").read_bytes() == (tmp_path / "b/model.safetensors").read_bytes()
    # log(90) = 4.5 nats is what a model that learned nothing but the id's range reaches.
    assert first["final_loss"] < 4.2


def test_the_record_says_how_the_model_was_made(corpus, tmp_path):
    calls = []
    out = tmp_path / "models" / "tiny"
    model = tiny()
    record = train(model, [corpus], out, config(batch_size=5), lambda *state: calls.append(state))
    assert json.loads((out / "training.json").read_text()) == json.loads(json.dumps(record))
    windows = 3000 // 32
    assert record["trained_tokens"] == windows * 32
    assert record["steps"] == -(-windows // 5)
    assert record["corpus_tokens"] == 20 * 61
    assert (record["parameters"], record["non_embedding_parameters"]) == count_parameters(model)
    assert record["config"]["learning_rate"] == default_learning_rate(48)
    assert calls[-1] == (windows * 32, windows * 32, record["loss_curve"][-1][1])
    last = [loss for done, loss in record["loss_curve"] if done > 0.95 * windows * 32]
    assert record["final_loss"] == pytest.approx(np.mean(last))
    assert [done for done, _, _ in calls] == sorted({done for done, _, _ in calls})
    loaded = load_model(out, device="cpu")
    assert loaded.facts["trained_tokens"] == windows * 32
    for ours, saved in zip(model.parameters(), loaded.model.parameters(), strict=True):
        assert torch.equal(ours, saved)


def test_learning_rate_rises_then_falls():
    shares = [learning_rate_share(step, 100, 0.1, 0.1) for step in range(100)]
    assert shares[:2] == pytest.approx([0.1, 0.2])
    assert max(shares) == shares[9] == 1
    assert shares[55] == pytest.approx(0.55)
    assert shares[10:] == sorted(shares[10:], reverse=True)
    assert 0.1 <= shares[-1] < 0.11


def test_an_interrupted_training_leaves_nothing(corpus, tmp_path):
    def stop(*_):
        raise KeyboardInterrupt

    before = sorted(tmp_path.iterdir())
    with pytest.raises(KeyboardInterrupt):
        train(tiny(), [corpus], tmp_path / "out", config(), stop)
    assert sorted(tmp_path.iterdir()) == before


def test_a_failed_save_leaves_nothing(corpus, tmp_path, monkeypatch):
    model = tiny()

    def full(folder):
        (folder / "model.safetensors").write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(model, "save_pretrained", full)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(MemindexError, match="No space left"):
        train(model, [corpus], tmp_path / "out", config())
    assert sorted(tmp_path.iterdir()) == before


def test_a_diverging_loss_is_an_error(corpus, tmp_path):
    model = tiny()
    with torch.no_grad():
        model.model.norm.weight[0] = float("nan")
    with pytest.raises(MemindexError, match="loss is nan"):
        train(model, [corpus], tmp_path / "out", config())
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"context": 33}, "longer than the model's 32"),
        ({"eos_token_id": 100}, "outside the vocabulary"),
        ({"dtype": "u3"}, "unknown token dtype"),
        ({"tokens": 0}, "1 or more"),
        ({"device": "cuda:99"}, "no such GPU"),
        ({"checkpoints": (100, 3001)}, "checkpoint after 3,001 tokens: the training has 3,000"),
    ],
)
def test_impossible_settings_are_refused(corpus, tmp_path, change, message):
    with pytest.raises(MemindexError, match=message):
        train(tiny(), [corpus], tmp_path / "out", config(**change))


def test_impossible_corpora_are_refused(corpus, tmp_path):
    def refused(files, message):
        with pytest.raises(MemindexError, match=message):
            train(tiny(), files, tmp_path / "out", config())

    refused([], "no token files")
    refused([tmp_path / "absent"], "No such file")
    refused([write(tmp_path / "short", np.zeros(32))], "fewer than one window of 33")
    refused([write(tmp_path / "odd", np.zeros(33), "u1")], "no whole number")
    refused([write(tmp_path / "wide", np.full(100, 100))], "token id 100")
    (tmp_path / "out").mkdir()
    refused([corpus], "exists; remove it")


def saved(folder):
    return (folder / "model.safetensors").read_bytes()


def test_checkpoints_are_models_of_their_own(corpus, tmp_path):
    wanted = config(batch_size=4, checkpoints=(1, 1000, 3000))
    train(tiny(), [corpus], tmp_path / "out", wanted)
    found = {folder.name: folder for folder in (tmp_path / "out/checkpoints").iterdir()}
    # Steps of 128 tokens, 93 windows in all.
    assert set(found) == {"step1", "step8", "step24"}
    assert saved(found["step24"]) == saved(tmp_path / "out")
    assert load_model(found["step8"], device="cpu").facts["trained_tokens"] == 1024
    record = json.loads((found["step8"] / "training.json").read_text())
    assert (record["trained_tokens"], record["steps"], record["loss_curve"][-1][0]) == (1024, 8, 1024)
    train(tiny(), [corpus], tmp_path / "plain", config(batch_size=4))
    assert saved(tmp_path / "plain") == saved(tmp_path / "out")


def stopped_at(tokens, kind=KeyboardInterrupt):
    def stop(done, *_):
        if done >= tokens:
            raise kind

    return stop


def test_a_stopped_training_goes_on_and_gives_the_same_weights(corpus, tmp_path, monkeypatch):
    monkeypatch.setattr(training, "KEEP_EVERY", 0)
    wanted = config(batch_size=4, checkpoints=(500,))
    whole = train(tiny(), [corpus], tmp_path / "whole", wanted)
    with pytest.raises(KeyboardInterrupt):
        train(tiny(), [corpus], tmp_path / "out", wanted, stopped_at(1280))
    with pytest.raises(ValueError, match=r"^$"):
        train(tiny(), [corpus], tmp_path / "out", wanted, stopped_at(2560, ValueError))
    calls = []
    record = train(tiny(), [corpus], tmp_path / "out", wanted, lambda *state: calls.append(state[0]))
    assert calls[0] == 2560
    assert record["resumed_at"] == [9, 19]
    assert record["loss_curve"] == whole["loss_curve"]
    for name in ("", "checkpoints/step4"):
        assert saved(tmp_path / "out" / name) == saved(tmp_path / "whole" / name)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "tokenized.0", "whole"]


@pytest.mark.parametrize("change", [{"learning_rate": 1e-3}, {"seed": 1}, {"tokens": 2999}])
def test_another_training_begins_anew(corpus, tmp_path, monkeypatch, change):
    monkeypatch.setattr(training, "KEEP_EVERY", 0)
    with pytest.raises(KeyboardInterrupt):
        train(tiny(), [corpus], tmp_path / "out", config(), stopped_at(1536))
    calls = []
    record = train(tiny(), [corpus], tmp_path / "out", config(**change), lambda *state: calls.append(state[0]))
    assert calls[0] == 512
    assert record["resumed_at"] == []


KILLED = """
import sys, signal, os
from pathlib import Path
import torch
torch.set_num_threads(1)
from memindex.models import training
from memindex.models.architectures import build_model
training.KEEP_EVERY = 0
corpus, out = map(Path, sys.argv[1:])
def train_until(tokens):
    def told(done, *_):
        if done >= tokens:
            os.kill(os.getpid(), signal.SIGKILL)
    model = build_model("llama", "0.05M", 100, 32, 0, eos_token_id=99)
    config = training.TrainingConfig(3000, 99, context=32, device="cpu", batch_size=4)
    training.train(model, [corpus], out, config, told)
for tokens in (700, 1900):
    # A process each, which has the libraries loaded.
    process = os.fork()
    if not process:
        train_until(tokens)
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]), out.exists())
"""


@pytest.mark.kill
def test_a_killed_training_goes_on(corpus, tmp_path):
    command = [sys.executable, "-c", KILLED, corpus, tmp_path / "out"]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "-9 False\n-9 False\n"
    train(tiny(), [corpus], tmp_path / "out", config(batch_size=4))
    train(tiny(), [corpus], tmp_path / "whole", config(batch_size=4))
    assert saved(tmp_path / "out") == saved(tmp_path / "whole")


LOSS = """
import torch
from torch.nn.functional import cross_entropy
from memindex.models import cross_entropy as module
torch.manual_seed(0)
for positions, width, vocabulary in ((5, 8, 11), (7, 16, 9001)):
    hidden = torch.randn(positions, width, requires_grad=True)
    weight = (torch.randn(vocabulary, width) / 2).requires_grad_()
    targets = torch.randint(0, vocabulary, (positions,))
    expected = cross_entropy(hidden @ weight.T, targets)
    (3 * expected).backward()
    gradients = hidden.grad, weight.grad
    hidden.grad = weight.grad = None
    # Three positions at a time.
    module._LOGITS = 3 * 4 * -(-vocabulary // 64) * 64
    loss = module.linear_cross_entropy(hidden, weight, targets)
    (3 * loss).backward()
    torch.testing.assert_close((loss, hidden.grad, weight.grad), (expected, *gradients))
print("equal")
"""


@pytest.mark.slow
@needs_triton
def test_the_loss_by_the_kernel_equals_that_of_torch(tmp_path):
    assert_equal(tmp_path, LOSS)


def test_training_goes_on_where_layers_can_not_be_compiled(monkeypatch):
    from torch._dynamo.exc import TorchDynamoException

    stepper = training_steps.Stepper(tiny(), 1e-3, 0.01, 1.0, compiled=False)
    layer = torch.nn.Identity()
    layer._compiled_call_impl = print
    stepper._layers = [layer]
    real, calls = stepper._step, []

    def failing(tokens):
        calls.append(stepper.compiled)
        if stepper.compiled:
            raise TorchDynamoException("no C compiler")
        return real(tokens)

    monkeypatch.setattr(stepper, "_step", failing)
    tokens = torch.from_numpy(np.random.default_rng(0).integers(0, 90, (2, 9)))
    with pytest.warns(UserWarning, match="training goes on without it: no C compiler"):
        assert stepper._recorded_or_not(tokens).isfinite()
    assert calls == [True, False]
    assert layer._compiled_call_impl is None
    monkeypatch.setattr(stepper, "_step", lambda _: (_ for _ in ()).throw(TorchDynamoException("again")))
    with pytest.raises(TorchDynamoException):
        stepper._recorded_or_not(tokens)
