"""Head ablation equals a forward pass by hand for every head, in every architecture."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from probed_models import SPECIAL, VOCABULARY, random_model  # noqa: E402
from reference_forward import Reference  # noqa: E402

from memindex.errors import MemindexError  # noqa: E402
from memindex.probes.head_ablation import NORM_AFTER, ablate_heads, head_means  # noqa: E402

pytestmark = pytest.mark.models

torch.set_num_threads(1)

PREFIX, SUFFIX, ROWS, LAYERS, HEADS = 6, 5, 3, 3, 4
PREFIXES = np.random.default_rng(8).integers(0, VOCABULARY, (ROWS, PREFIX))
TEXT = np.random.default_rng(9).integers(0, VOCABULARY, (5, 12))


def greedy(loaded):
    ids = torch.from_numpy(PREFIXES)
    with torch.inference_mode():
        for _ in range(SUFFIX):
            ids = torch.cat([ids, loaded.model(input_ids=ids, use_cache=False).logits[:, -1:].argmax(dim=-1)], dim=1)
    return ids[:, PREFIX:].numpy()


def replaced(said, head, by, means, layer):
    """What the heads of a layer say, (tokens, heads, size), when one of them is replaced."""
    out = said.copy()
    if by == "others":
        out[:, head] = np.delete(said, head, axis=1).mean(axis=1)
    else:
        out[:, head] = 0 if by == "zero" else means[layer, head]
    return out


@pytest.mark.parametrize("architecture", SPECIAL)
def test_every_head_equals_ablation_by_hand(architecture):
    loaded = random_model(architecture)
    reference, emitted = Reference(loaded.model), greedy(loaded)
    means = np.mean(
        [np.stack([said.mean(axis=0) for said in reference.read(text).heads]) for text in TEXT], axis=0
    )  # every text is equally long
    got_means = head_means(loaded, TEXT, batch_size=2)
    np.testing.assert_allclose(got_means.numpy(), means, rtol=1e-4, atol=1e-5 * np.abs(means).max())
    lost = 0
    # Batches of one sequence and two heads, of one sequence and all, and of all at once.
    for by, size in (("others", 2), ("zero", 5), ("mean", 100)):
        found = ablate_heads(loaded, PREFIXES, emitted, by, got_means if by == "mean" else None, batch_size=size)
        assert found.kept.shape == found.right.shape == found.rescaled.shape == (ROWS, LAYERS, HEADS)
        for row, layer, head in np.ndindex(found.kept.shape):
            ids = np.concatenate([PREFIXES[row], emitted[row]])[:-1]

            def change(number, said, at=(layer, head, by)):
                return replaced(said, at[1], at[2], means, number) if number == at[0] else said

            done = reference.read(ids, change=change)
            right = done.logits[PREFIX - 1 :].argmax(axis=1) == emitted[row]
            assert found.right[row, layer, head] == right.sum()
            assert found.kept[row, layer, head] == (SUFFIX if right.all() else right.argmin())
            if architecture in NORM_AFTER:
                clean = reference.read(ids)
                weight = reference.weights[f"model.layers.{layer}.self_attn.o_proj.weight"]
                sizes = [
                    np.sqrt(((one.heads[layer].reshape(len(ids), -1) @ weight.T) ** 2).mean(axis=1))
                    for one in (clean, done)
                ]
                assert found.rescaled[row, layer, head] == pytest.approx((sizes[0] / sizes[1]).mean(), rel=1e-3)
            else:
                assert found.rescaled[row, layer, head] == 1
        lost += (found.right < SUFFIX).sum()
    assert 0 < lost < 3 * ROWS * LAYERS * HEADS


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("architecture", SPECIAL)
def test_identity_changes_nothing(architecture, attention):
    loaded = random_model(architecture, attention)
    emitted = greedy(loaded)
    for size in (1, 3, 6, 64):
        found = ablate_heads(loaded, PREFIXES, emitted, "identity", batch_size=size)
        assert (found.right == SUFFIX).all()
        assert (found.kept == SUFFIX).all()
        np.testing.assert_allclose(found.rescaled, 1, rtol=1e-5)
    # What stands behind it is exact where the batch is the same: reading from a layer on gives the model's own stream.
    from memindex.models.modules import modules_of
    from memindex.probes.head_ablation import _calls, _from_layer

    modules, ids = modules_of(loaded.model), torch.from_numpy(PREFIXES)
    with torch.inference_mode():
        with _calls(modules) as calls:
            last = loaded.model.base_model(input_ids=ids, use_cache=False).last_hidden_state
        for layer in range(LAYERS):
            assert torch.equal(modules.final_norm(_from_layer(modules, calls, layer, 1, ROWS)), last)


def test_eager_and_sdpa_agree():
    for architecture in SPECIAL:
        eager, sdpa = random_model(architecture, "eager"), random_model(architecture)
        emitted = greedy(sdpa)
        one, other = (ablate_heads(loaded, PREFIXES, emitted, batch_size=8) for loaded in (eager, sdpa))
        np.testing.assert_array_equal(one.right, other.right)


def test_what_makes_no_sense_is_refused():
    loaded = random_model("llama")
    emitted = greedy(loaded)
    for by, means, message in (
        ("nothing", None, "unknown replacement 'nothing'; known: others, zero"),
        ("mean", None, "give what head_means gives"),
        ("zero", head_means(loaded, TEXT), "give what head_means gives"),
    ):
        with pytest.raises(MemindexError, match=message):
            ablate_heads(loaded, PREFIXES, emitted, by, means)
    loaded.model.config.num_attention_heads = 1
    with pytest.raises(MemindexError, match="one head per layer"):
        ablate_heads(loaded, PREFIXES, emitted)
