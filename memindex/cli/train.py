"""`memindex train`: small models on an index's own tokens, for experiments whose training data is fully known."""

from __future__ import annotations

import click

from memindex.cli.queries import index_option
from memindex.errors import MemindexError


@click.command()
@index_option
@click.option(
    "--architecture",
    default="gpt_neox",
    show_default=True,
    help="transformers model type: gpt_neox, llama, …",
)
@click.option("--size", required=True, help="Parameters outside the embeddings, as 0.25M; the nearest shape is taken.")
@click.option("--tokens", help="Training tokens in all, as 2M; no more than the index has.")
@click.option("--passes", type=click.FloatRange(0, min_open=True), help="Read the index so often instead, as 2 or 0.5.")
@click.option("-o", "--out", required=True, type=click.Path(), help="Folder of the new model; must not exist.")
@click.option("--context", default=256, show_default=True, help="Tokens per training window.")
@click.option("--batch-size", default=16, show_default=True, help="Windows per step.")
@click.option(
    "--learning-rate",
    type=click.FloatRange(0, min_open=True),
    help="Peak learning rate. [default: by the model's width]",
)
@click.option("--seed", default=0, show_default=True, type=click.IntRange(0), help="Seed of weights and data order.")
@click.option(
    "--checkpoints",
    "checkpoints",
    metavar="TOKENS,…",
    help="Also save the model after so many tokens each, as 100k,1M,10M: folders in OUT/checkpoints.",
)
@click.option("--compile/--no-compile", "compiled", default=None, help="Prepare layers by torch.compile, on a GPU.")
@click.option("--eos-id", type=int, help="Id between documents. [default: the tokenizer's end-of-text token]")
@click.option("--device", type=click.Choice(["cpu", "cuda"]), help="[default: a GPU where there is one]")
@click.option("--json", "as_json", is_flag=True, help="Print the training record as JSON.")
def train(
    index_path: str,
    architecture: str,
    size: str,
    tokens: str | None,
    passes: float | None,
    out: str,
    context: int,
    batch_size: int,
    learning_rate: float | None,
    seed: int,
    checkpoints: str | None,
    compiled: bool | None,
    eos_id: int | None,
    device: str | None,
    as_json: bool,
) -> None:
    """Train a small model on the tokens of an index.

    The same seed gives every architecture and size the same data in the same order. A training that was stopped or
    killed goes on where it was two minutes before at most, or at its last checkpoint, when the same command is given
    again.

    \b
    Examples:
      memindex train -i pile --architecture llama --size 1M --passes 2 --out models/llama-1M
      memindex train -i pile --size 25M --tokens 100M --checkpoints 1M,10M --batch-size 64 --out models/neox-25M
    """
    from memindex.cli.output import print_json
    from memindex.cli.progress_bars import loading_torch, progress_bar
    from memindex.cli.stopping import resumable
    from memindex.extras import require
    from memindex.index.index import Index
    from memindex.models.shapes import parse_size

    index = Index.open(index_path)
    budget = _budget(tokens, passes, index.manifest.tokens)
    parse_size(size)
    marks = tuple(parse_size(part) for part in checkpoints.split(",")) if checkpoints else ()
    require("models")
    # Torch takes seconds to load: a slip above is told before.
    with loading_torch():
        from memindex.models.from_index import train_on_index

    with progress_bar() as progress, resumable("states saved every two minutes and at each checkpoint"):

        def told(done: int, total: int, loss: float) -> None:
            # What can be wrong with the arguments was found before the first step.
            if not told_before:
                told_before.append(True)
                _tell_shape(size)
            progress(f"train {architecture} {size}", done, total, f"loss {loss:.3f}")

        told_before: list[bool] = []
        record = train_on_index(
            index,
            architecture,
            size,
            budget,
            out,
            context=context,
            batch_size=batch_size,
            learning_rate=learning_rate,
            seed=seed,
            checkpoints=marks,
            compiled=compiled,
            eos_token_id=eos_id,
            device=device,
            progress=told,
        )
    if as_json:
        print_json(record)
        return
    rate = record["trained_tokens"] / record["seconds"]
    click.echo(
        f"{out}: {record['non_embedding_parameters']:,} parameters outside the embeddings, "
        f"{record['trained_tokens']:,} tokens in {record['seconds']:.1f} s ({rate:,.0f} tokens/s), "
        f"loss {record['final_loss']:.3f}"
    )


def _budget(tokens: str | None, passes: float | None, corpus: int) -> int:
    """Training tokens in all; a corpus is read more than once only where that was asked for."""
    from memindex.models.shapes import parse_size

    if (tokens is None) == (passes is None):
        raise MemindexError("say how long to train: --tokens, or --passes over the index")
    if tokens is None:
        return round(corpus * (passes or 0))
    if parse_size(tokens) > corpus:
        raise MemindexError(
            f"--tokens {tokens}: the index has {corpus:,} tokens; to read it more than once, give --passes "
            f"{parse_size(tokens) / corpus:.3g} instead"
        )
    return parse_size(tokens)


def _tell_shape(size: str) -> None:
    """Say what is trained where no shape has exactly the size."""
    from memindex.cli.output import note
    from memindex.models.shapes import parse_size, shape_for

    nearest = shape_for(parse_size(size))
    if nearest.parameters != parse_size(size):
        note(
            f"{size} is no size of a whole number of layers and heads: {nearest.parameters:,} parameters come nearest "
            f"({nearest.layers} layers of {nearest.hidden}, {nearest.heads} heads)"
        )
