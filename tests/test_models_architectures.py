"""Sizes are read and met; every architecture makes a model that runs and learns."""

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from memindex.errors import MemindexError  # noqa: E402
from memindex.models.architectures import (  # noqa: E402
    ARCHITECTURES,
    build_model,
    count_parameters,
    parse_size,
    shape_for,
)

pytestmark = pytest.mark.models

# The models here are so small that a second thread only waits for the first.
torch.set_num_threads(1)


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("250k", 250_000),
        ("0.25M", 250_000),
        ("1.6M", 1_600_000),
        ("1B", 10**9),
        ("250000", 250_000),
        (".5m", 500_000),
    ],
)
def test_sizes_are_read(text, count):
    assert parse_size(text) == count


@pytest.mark.parametrize("text", ["", "big", "-1M", "0", "1T", "1 2"])
def test_other_sizes_are_refused(text):
    with pytest.raises(MemindexError, match="is no size"):
        parse_size(text)


@pytest.mark.parametrize(
    "size", [50_000, 100_000, 250_000, 500_000, 10**6, 1_600_000, 5_000_000, 25_000_000, 10**8, 10**9]
)
def test_shapes_are_near_the_size_and_sensible(size):
    shape = shape_for(size)
    assert abs(shape.parameters / size - 1) < 0.12
    assert shape.hidden // shape.heads in {16, 32, 64}
    assert shape.hidden % shape.heads == 0
    assert 15 <= shape.hidden / shape.layers <= 130


def test_doubling_the_size_gives_a_larger_shape():
    counts = [shape_for(50_000 * 2**power).parameters for power in range(15)]
    assert counts == sorted(set(counts))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_architecture_runs_and_learns(architecture):
    model = build_model(architecture, "0.1M", 300, 32, 0, eos_token_id=299)
    ids = torch.randint(0, 300, (4, 32), generator=torch.Generator().manual_seed(0))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    losses = []
    for _ in range(5):
        loss = model(input_ids=ids, labels=ids).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0] - 0.3
    # Every id must be learnable: a family's default pad id would have no gradient.
    changed = model.get_input_embeddings().weight.grad.abs().sum(dim=1) > 0
    assert changed.all()


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("tied", [True, False])
def test_parameters_are_counted_exactly(architecture, tied):
    model = build_model(architecture, "0.25M", 500, 40, 0, tie_embeddings=tied)
    total, non_embedding = count_parameters(model)
    blocks = [(n, p) for n, p in model.named_parameters() if not any(w in n for w in ("emb", "wte", "wpe", "lm_head"))]
    assert total == sum(p.numel() for p in {id(p): p for p in model.parameters()}.values())
    assert non_embedding == sum(p.numel() for _, p in blocks)
    width = model.config.hidden_size
    positions = 40 * width if architecture == "gpt_bigcode" else 0
    assert total - non_embedding == (1 if tied else 2) * 500 * width + positions
    assert abs(non_embedding / 250_000 - 1) < 0.1


def test_equal_seeds_give_equal_weights_and_leave_the_global_generator_alone():
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first, again, other = (build_model("llama", 50_000, 100, 32, seed) for seed in (1, 1, 2))
    assert torch.equal(before, torch.get_rng_state())
    weights = [m.get_input_embeddings().weight for m in (first, again, other)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_small_models_tie_their_embeddings():
    assert build_model("gpt_neox", "0.1M", 100, 32, 0).config.tie_word_embeddings


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"architecture": "bert"}, "unknown architecture"),
        ({"vocabulary": 1}, "vocabulary"),
        ({"context": 0}, "context"),
        ({"eos_token_id": 100}, "outside the vocabulary"),
    ],
)
def test_impossible_models_are_refused(change, message):
    wanted = {"architecture": "llama", "size": "0.1M", "vocabulary": 100, "context": 32, "seed": 0} | change
    with pytest.raises(MemindexError, match=message):
        build_model(**wanted)
