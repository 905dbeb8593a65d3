"""Probes on a GPU give what they give on a CPU, where other tests compare them with a computation by hand."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from probed_models import SPECIAL, VOCABULARY, random_model  # noqa: E402

from memindex.models.loading import LoadedModel  # noqa: E402
from memindex.probes.compression import compress  # noqa: E402
from memindex.probes.head_ablation import IDENTITY, MEAN, OTHERS, ZERO, ablate_heads, head_means  # noqa: E402
from memindex.probes.layer_decoding import decode_layers  # noqa: E402
from memindex.probes.noise import add_noise  # noqa: E402
from memindex.probes.perturbation import perturb  # noqa: E402

pytestmark = [
    pytest.mark.models,
    pytest.mark.usefixtures("exact_float32"),
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here: probes are compared on the CPU"),
]

ROWS, PREFIX, SUFFIX = 40, 8, 6


@pytest.fixture(scope="module", params=SPECIAL)
def world(request):
    """(the model on a CPU, the same on a GPU, prefixes, what it continues them with)."""
    here, there = random_model(request.param), random_model(request.param)
    there = LoadedModel(there.model.cuda(), there.model_id, "cuda", there.dtype, there.attention, there.facts)
    ids = np.random.default_rng(2).integers(0, VOCABULARY, (ROWS, PREFIX))
    for _ in range(SUFFIX):
        with torch.no_grad():
            ids = np.concatenate([ids, here.model(torch.from_numpy(ids)).logits[:, -1:].argmax(-1).numpy()], axis=1)
    return here, there, ids[:, :PREFIX], ids[:, PREFIX:]


def mostly_equal(one, other):
    """Integers that ties between two tokens may change, in few places."""
    assert one.shape == other.shape
    assert (one != other).mean() < 0.01


def test_layer_decoding(world):
    here, there, *tokens = world
    on_cpu, on_gpu = (decode_layers(loaded, *tokens, batch_size=16) for loaded in (here, there))
    np.testing.assert_allclose(on_gpu.probability, on_cpu.probability, atol=1e-4)
    np.testing.assert_allclose(on_gpu.entropy, on_cpu.entropy, atol=1e-3)
    mostly_equal(on_gpu.rank, on_cpu.rank)


@pytest.mark.parametrize("replacement", [OTHERS, ZERO, MEAN, IDENTITY])
def test_head_ablation(world, replacement):
    here, there, *tokens = world
    whole = np.concatenate(tokens, axis=1)
    found = []
    for loaded in (here, there):
        means = head_means(loaded, whole) if replacement == MEAN else None
        found.append(ablate_heads(loaded, *tokens, replacement, means, batch_size=64))
    mostly_equal(found[1].right, found[0].right)
    mostly_equal(found[1].kept, found[0].kept)
    np.testing.assert_allclose(found[1].rescaled, found[0].rescaled, rtol=1e-3)
    if replacement == IDENTITY:
        assert (found[1].kept == SUFFIX).mean() > 0.99


def test_noise(world):
    here, there, *tokens = world
    ids = np.arange(ROWS) * 7
    on_cpu, on_gpu = (add_noise(loaded, *tokens, ids, [0, 0.2], draws=2, batch_size=16) for loaded in (here, there))
    np.testing.assert_allclose(on_gpu.similarity, on_cpu.similarity, atol=1e-3)
    np.testing.assert_allclose(on_gpu.logprob, on_cpu.logprob, atol=1e-2)
    mostly_equal(on_gpu.kept, on_cpu.kept)


def test_compression(world):
    here, there, *tokens = world
    on_cpu, on_gpu = (compress(loaded, *tokens, batch_size=16) for loaded in (here, there))
    mostly_equal(on_gpu.works, on_cpu.works)


def test_perturbation(world):
    here, there, *tokens = world
    ids = np.arange(ROWS)
    on_cpu, on_gpu = (perturb(loaded, *tokens, ids, np.arange(VOCABULARY), batch_size=16) for loaded in (here, there))
    mostly_equal(on_gpu.kept, on_cpu.kept)


def test_half_precision_reads_the_same_logits_by_the_kernel_as_by_torch(world, monkeypatch):
    from memindex.probes import suffixes

    _, there, prefixes, continuations = world
    if suffixes._kernel is None:
        pytest.skip("Triton is not installed")
    half = LoadedModel(there.model.bfloat16(), there.model_id, "cuda", "bfloat16", there.attention, there.facts)
    try:
        by_kernel = decode_layers(half, prefixes, continuations)
        monkeypatch.setattr(suffixes, "_kernel", None)
        by_torch = decode_layers(half, prefixes, continuations)
    finally:
        there.model.float()
    np.testing.assert_allclose(by_kernel.probability, by_torch.probability, atol=1e-4)
    np.testing.assert_allclose(by_kernel.entropy, by_torch.entropy, atol=1e-3)
    np.testing.assert_array_equal(by_kernel.rank, by_torch.rank)
