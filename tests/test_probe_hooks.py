"""Hooks see and change what a forward pass by hand goes through, in every architecture and attention."""

from __future__ import annotations

import operator

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from probed_models import SPECIAL, VOCABULARY, random_model  # noqa: E402
from reference_forward import Reference  # noqa: E402

from memindex.errors import MemindexError  # noqa: E402
from memindex.models.families import PATHS  # noqa: E402
from memindex.probes import hooks  # noqa: E402
from memindex.probes.hooks import HEADS, INTO, OUT_OF, Place, hooked, recorded, residual_stream, unembedder  # noqa: E402

pytestmark = pytest.mark.models

torch.set_num_threads(1)

IDS = np.random.default_rng(3).integers(0, VOCABULARY, (2, 20))


def close(got, wanted):
    scale = np.abs(wanted).max()
    np.testing.assert_allclose(got.numpy(), wanted, rtol=0, atol=1e-5 * scale)


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("architecture", SPECIAL)
def test_every_place_is_what_it_is_by_hand(architecture, attention):
    model = random_model(architecture, attention).model
    by_hand = [Reference(model).read(row) for row in IDS]
    places = [*residual_stream(model), *(Place(INTO, n) for n in range(3)), *(Place(HEADS, n) for n in range(3))]
    with torch.inference_mode(), recorded(model, places) as found:
        logits = model(input_ids=torch.from_numpy(IDS), use_cache=False).logits
    close(logits, np.stack([one.logits for one in by_hand]))
    for layer in range(3):
        before, after, heads = (
            np.stack(part)
            for part in zip(*((p.stream[layer], p.stream[layer + 1], p.heads[layer]) for p in by_hand), strict=True)
        )
        assert heads.shape == (2, 20, 4, 8)
        close(found[Place(INTO, layer)], before)
        close(found[Place(OUT_OF, layer)], after)
        close(found[Place(HEADS, layer)], heads)
        # Layers and heads are not alike, so that another one would be noticed.
        assert np.abs(after - before).max() > 0.1
        assert np.abs(heads[:, :, 0] - heads[:, :, 1]).max() > 0.1


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("architecture", SPECIAL)
def test_places_equal_those_of_nnsight(architecture):
    nnsight = pytest.importorskip("nnsight", reason="another way to the same places; the forward pass by hand is there")
    model, ids = random_model(architecture).model, torch.from_numpy(IDS)
    places = [Place(INTO, 0), Place(OUT_OF, 1), Place(HEADS, 1)]
    with torch.inference_mode(), recorded(model, places) as found:
        model(input_ids=ids, use_cache=False)
    paths = PATHS[model.config.model_type]
    traced = nnsight.NNsight(model)
    layers = operator.attrgetter(paths.layers)(traced)
    output = operator.attrgetter(paths.attention_output)(layers[1])
    with traced.trace(input_ids=ids, use_cache=False):
        into = layers[0].input.save()
        heads = output.input.save()
        out = layers[1].output.save()
    for place, theirs in zip(places, (into, out, heads), strict=True):
        assert torch.equal(found[place].flatten(2), theirs)


@pytest.mark.parametrize("architecture", SPECIAL)
def test_a_changed_head_changes_what_it_does_by_hand(architecture):
    loaded = random_model(architecture)

    def mean_of_others(heads):
        changed = heads.copy() if isinstance(heads, np.ndarray) else heads.clone()
        changed[..., 2, :] = (heads[..., 0, :] + heads[..., 1, :] + heads[..., 3, :]) / 3
        return changed

    wanted = Reference(loaded.model).read(IDS[0], change=lambda n, out: mean_of_others(out) if n == 1 else out)
    clean = Reference(loaded.model).read(IDS[0])
    with torch.inference_mode(), hooked(loaded.model, {Place(HEADS, 1): mean_of_others}):
        got = loaded.model(input_ids=torch.from_numpy(IDS[:1]), use_cache=False).logits[0]
    close(got, wanted.logits)
    assert np.abs(wanted.logits - clean.logits).max() > 0.01


@pytest.mark.parametrize("part", [INTO, OUT_OF, HEADS])
@pytest.mark.parametrize("architecture", SPECIAL)
def test_what_changes_nothing_changes_nothing_at_all(architecture, part):
    model = random_model(architecture).model
    ids = torch.from_numpy(IDS)
    seen = []
    with torch.inference_mode():
        clean = model(input_ids=ids, use_cache=False).logits
        with hooked(model, {Place(part, layer): lambda x: seen.append(1) or x.clone() for layer in range(3)}):
            same = model(input_ids=ids, use_cache=False).logits
        assert len(seen) == 3
        assert torch.equal(clean, same)
        with hooked(model, {Place(part, 1): lambda x: x * 0}):
            assert not torch.equal(clean, model(input_ids=ids, use_cache=False).logits)
        # They are gone.
        assert torch.equal(clean, model(input_ids=ids, use_cache=False).logits)


def hooks_of(model):
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())


def test_hooks_are_removed_however_it_ends():
    model = random_model("llama").model

    def fail(_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), hooked(model, {Place(INTO, 0): lambda _: None, Place(HEADS, 2): fail}):
        assert hooks_of(model) == 2
        model(input_ids=torch.from_numpy(IDS))
    assert hooks_of(model) == 0
    with (
        pytest.raises(MemindexError, match="there is no layer 3: the model has 3"),
        hooked(model, {Place(INTO, 0): lambda _: None, Place(INTO, 3): lambda _: None}),
    ):
        pass
    assert hooks_of(model) == 0


@pytest.mark.parametrize("architecture", SPECIAL)
def test_norm_and_unembedding_of_every_layer(architecture):
    loaded = random_model(architecture)
    reference = Reference(loaded.model)
    unembed = unembedder(loaded)
    for stream in reference.read(IDS[0]).stream:
        close(unembed(torch.from_numpy(stream).float()).detach(), reference.unembed(stream))


def test_a_model_that_scales_its_logits_is_refused():
    loaded = random_model("llama")
    head = loaded.model.lm_head
    loaded.model.lm_head.register_forward_hook(lambda *_: None)
    forward = loaded.model.forward

    def scaled(**given):
        out = forward(**given)
        return type(out)(logits=out.logits * 0.5)

    loaded.model.forward = scaled
    assert head is loaded.model.get_output_embeddings()
    with pytest.raises(MemindexError, match="changes its logits after the unembedding"):
        unembedder(loaded)


def test_layers_that_can_t_be_found_are_refused():
    model = random_model("llama").model
    model.model.layers = torch.nn.ModuleList()
    with pytest.raises(MemindexError, match="don't know where a llama model keeps its layers"), recorded(model, []):
        pass
    model = random_model("llama").model
    model.config.num_attention_heads = 5
    with (
        pytest.raises(MemindexError, match="the 5 heads of a llama layer can't be told apart in 32 numbers"),
        hooked(model, {Place(hooks.HEADS, 0): lambda _: None}),
    ):
        model(input_ids=torch.from_numpy(IDS))
