"""Noise, perturbation and layer decoding equal a slow recomputation by hand, in every architecture."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from kernel_on_cpu import assert_equal, needs_triton  # noqa: E402
from probed_models import SPECIAL, VOCABULARY, random_model  # noqa: E402
from reference_forward import Reference  # noqa: E402

from memindex.errors import MemindexError  # noqa: E402
from memindex.probes import noise, perturbation  # noqa: E402
from memindex.probes.layer_decoding import decode_layers  # noqa: E402
from memindex.probes.noise import add_noise, gaussian  # noqa: E402
from memindex.probes.perturbation import perturb  # noqa: E402

pytestmark = pytest.mark.models

torch.set_num_threads(1)

PREFIX, SUFFIX, ROWS = 6, 5, 4
PREFIXES = np.random.default_rng(5).integers(0, VOCABULARY, (ROWS, PREFIX))
IDS = np.array([11, 4, 1 << 40, 7])


def greedy(reference, prefix):
    """What a model emits, token by token."""
    ids = list(prefix)
    for _ in range(SUFFIX):
        ids.append(int(reference.read(np.array(ids)).logits[-1].argmax()))
    return ids[len(prefix) :]


@pytest.fixture(scope="module")
def world():
    """A function from an architecture to (its model, the model by hand, what it emits after PREFIXES)."""
    made = {}

    def make(architecture):
        if architecture not in made:
            loaded = random_model(architecture)
            reference = Reference(loaded.model)
            made[architecture] = loaded, reference, np.array([greedy(reference, row) for row in PREFIXES])
        return made[architecture]

    return make


def softmax(logits):
    weights = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return weights / weights.sum(axis=-1, keepdims=True)


def kept(logits, following):
    """Tokens before the first that is not the likeliest; `logits` predict one after the other."""
    right = logits.argmax(axis=-1) == following
    return len(following) if right.all() else int(right.argmin())


@pytest.mark.parametrize("architecture", SPECIAL)
def test_layer_decoding(world, architecture):
    loaded, reference, emitted = world(architecture)
    found = decode_layers(loaded, PREFIXES, emitted, batch_size=3)
    assert found.probability.shape == (ROWS, 4, SUFFIX)
    for row in range(ROWS):
        done = reference.read(np.concatenate([PREFIXES[row], emitted[row]])[:-1])
        for layer, stream in enumerate(done.stream):
            logits = reference.unembed(stream)[PREFIX - 1 :]
            shares = softmax(logits)
            true = np.take_along_axis(logits, emitted[row][:, None], axis=1)
            np.testing.assert_allclose(
                found.probability[row, layer], softmax(logits)[range(SUFFIX), emitted[row]], rtol=1e-3, atol=1e-6
            )
            assert found.rank[row, layer].tolist() == (logits > true).sum(axis=1).tolist()
            entropy = -(shares * np.log(shares)).sum(axis=1)
            np.testing.assert_allclose(found.entropy[row, layer], entropy, rtol=1e-3, atol=1e-4)
    # The last layer is the model itself, which emitted what is likeliest there; others would have said other things.
    assert (found.rank[:, -1] == 0).all()
    assert (found.rank[:, :2] > 0).any()


@pytest.mark.parametrize("architecture", SPECIAL)
def test_noise(world, architecture):
    loaded, reference, emitted = world(architecture)
    alphas, draws = (0.0, 0.2, 0.9), 2
    found = add_noise(loaded, PREFIXES, emitted, IDS, alphas, draws, seed=3, batch_size=3)
    assert found.similarity.shape == (ROWS, draws, len(alphas), 4)
    tokens = PREFIX + SUFFIX - 1
    for row, draw in np.ndindex(ROWS, draws):
        ids = np.concatenate([PREFIXES[row], emitted[row]])[:-1]
        clean = reference.read(ids)
        epsilon = gaussian(torch.from_numpy(IDS[row : row + 1]), tokens, 32, draw, 3)[0].double().numpy()
        size = np.sqrt((clean.stream[0] ** 2).mean(axis=1, keepdims=True))
        for number, alpha in enumerate(alphas):
            noised = reference.read(ids, noise=alpha * size * epsilon)
            logits = noised.logits[PREFIX - 1 :]
            assert found.kept[row, draw, number] == kept(logits, emitted[row])
            logprob = np.log(softmax(logits)[range(SUFFIX), emitted[row]]).sum()
            assert found.logprob[row, draw, number] == pytest.approx(logprob, rel=1e-3, abs=1e-3)
            for layer in range(4):
                a, b = (done.stream[layer][PREFIX - 1 :] for done in (clean, noised))
                cosine = (a * b).sum(axis=1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
                assert found.similarity[row, draw, number, layer] == pytest.approx(cosine.mean(), abs=1e-4)
    assert (found.kept[:, :, 0] == SUFFIX).all()
    assert (found.kept[:, :, 2] < SUFFIX).any()


def test_noise_of_strength_zero_changes_nothing_at_all(world):
    for architecture in SPECIAL:
        loaded, _, emitted = world(architecture)
        found = add_noise(loaded, PREFIXES, emitted, IDS, [0.0, 1e-3])
        ids = torch.from_numpy(np.concatenate([PREFIXES, emitted], axis=1))
        with torch.inference_mode():
            clean = loaded.model(input_ids=ids[:, :-1], use_cache=False).logits
            model = loaded.model
            zero = {noise.Place(noise.INTO, 0): noise._adder(0.0, gaussian(torch.from_numpy(IDS), 10, 32, 0, 0))}
            with noise.hooked(model, zero):
                assert torch.equal(model(input_ids=ids[:, :-1], use_cache=False).logits, clean)
        np.testing.assert_allclose(found.similarity[:, :, 0], 1, atol=1e-6)
        # Whereas the least noise is seen.
        assert (found.logprob[:, :, 0] != found.logprob[:, :, 1]).any()


def test_noise_depends_on_seed_draw_and_sequence_alone(world):
    loaded, _, emitted = world("llama")
    whole = add_noise(loaded, PREFIXES, emitted, IDS, [0.3], draws=2, seed=1)
    order = np.array([2, 0])
    some = add_noise(loaded, PREFIXES[order], emitted[order], IDS[order], [0.1, 0.3], draws=2, seed=1, batch_size=1)
    np.testing.assert_allclose(some.similarity[:, :, 1], whole.similarity[order][:, :, 0], atol=1e-6)
    other = add_noise(loaded, PREFIXES, emitted, IDS, [0.3], draws=2, seed=2)
    assert (np.abs(other.similarity - whole.similarity)[..., 0] > 1e-6).all()
    assert (np.abs(whole.similarity[:, 0] - whole.similarity[:, 1])[..., 0] > 1e-6).all()


def test_noise_is_normal_and_uncorrelated():
    drawn = gaussian(torch.arange(200), 16, 64, 1, 9).double()
    assert drawn.mean().abs() < 0.01
    assert abs(drawn.std() - 1) < 0.01
    assert abs((drawn**4).mean() - 3) < 0.05
    assert abs((drawn.abs() > 1.96).double().mean() - 0.05) < 0.002
    flat = drawn.flatten(1)
    for other in (flat.roll(1, 0), flat.roll(1, 1), gaussian(torch.arange(200), 16, 64, 2, 9).double().flatten(1)):
        assert (flat * other).mean().abs() < 0.01


@pytest.mark.parametrize("alphas", [[-0.1], [0.2, 1.1], [float("nan")], []])
def test_alphas_out_of_range_are_refused(world, alphas):
    loaded, _, emitted = world("llama")
    with pytest.raises(MemindexError, match=r"alpha must be between 0 and 1|at least one alpha"):
        add_noise(loaded, PREFIXES, emitted, IDS, alphas)


@pytest.mark.parametrize("architecture", SPECIAL)
def test_perturbation(world, architecture):
    loaded, reference, emitted = world(architecture)
    found = perturb(loaded, PREFIXES, emitted, IDS, np.arange(0, VOCABULARY, 2), draws=2, seed=1, batch_size=3)
    assert found.kept.shape == found.replacements.shape == (ROWS, 2, PREFIX)
    for row, draw, place in np.ndindex(found.kept.shape):
        ids = np.concatenate([PREFIXES[row], emitted[row]])
        assert found.replacements[row, draw, place] != ids[place]
        assert found.replacements[row, draw, place] % 2 == 0
        ids[place] = found.replacements[row, draw, place]
        logits = reference.read(ids[:-1]).logits[PREFIX - 1 :]
        assert found.kept[row, draw, place] == kept(logits, emitted[row])
    assert 0 <= found.kept.min() < SUFFIX


def test_replacements_are_drawn_evenly_from_the_others():
    prefixes = np.tile([3, 5], (4000, 1))
    choices = np.array([3, 3, 3, 5, 8, 8])
    drawn = perturbation.replace(prefixes, np.arange(4000), choices, 2, 0)
    for place, counts in ((0, {5: 1 / 3, 8: 2 / 3}), (1, {3: 3 / 5, 8: 2 / 5})):
        ids, found = np.unique(drawn[:, :, place], return_counts=True)
        assert ids.tolist() == list(counts)
        np.testing.assert_allclose(found / 8000, list(counts.values()), atol=0.02)
    np.testing.assert_array_equal(drawn[7:9], perturbation.replace(prefixes[7:9], np.array([7, 8]), choices, 2, 0))
    with pytest.raises(MemindexError, match="at least two different ids"):
        perturbation.replace(prefixes, np.arange(4000), np.array([3, 3]), 1, 0)


LOGITS = """
import torch
from memindex.probes import suffixes
from memindex.probes.logits_kernel import reduce_logits
suffixes._kernel = None
torch.manual_seed(0)
places = torch.tensor([0, 3, 5, 2, 6])
for vocabulary, dtype in ((7, torch.float32), (4096, torch.float32), (10001, torch.float32), (9001, torch.bfloat16)):
    logits = (torch.randn(5, vocabulary) * 6).to(dtype)
    logits[2] = 1.5
    logits[1, 5:] = -torch.inf
    logits[3, 1] = logits[3, vocabulary - 1] = logits[3].max()
    said = suffixes._say(logits, places)
    logprob, rank, best, entropy = reduce_logits(logits, places)
    torch.testing.assert_close(logprob, said.logprob, atol=2e-5, rtol=1e-5)
    torch.testing.assert_close(entropy, said.entropy, atol=2e-4, rtol=1e-4)
    assert torch.equal(rank, said.rank) and torch.equal(best.long(), logits.argmax(dim=-1))
    logits[0, 3] = torch.nan
    assert reduce_logits(logits, places)[0].isnan().tolist() == [True, False, False, False, False]
print("equal")
"""


@pytest.mark.slow
@needs_triton
def test_the_kernel_reduces_logits_as_torch_does(tmp_path):
    assert_equal(tmp_path, LOGITS)
