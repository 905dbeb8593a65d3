"""`memindex import`: results of other runners into a study's tables, one command per format."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from memindex.cli import NamingGroup
from memindex.cli.importing_runs import import_all, import_options, tell
from memindex.errors import MemindexError


@click.group("import", cls=NamingGroup)
def import_() -> None:
    """Read results of other runners into a study's tables.

    Every format is described in docs/importing.md. An import that was killed goes on where it was when it is run again.
    """


_TRAINING_DATA = click.option(
    "--training-data",
    type=click.Path(path_type=Path),
    help="Pythia's merged training data (document.bin), for tokens that the files lack.",
)


@import_.command()
@import_options(decoding="greedy", model_required=True)
@click.option("--prefix", default=32, show_default=True, type=click.IntRange(1), help="Tokens given to the model.")
@click.option("--suffix", default=32, show_default=True, type=click.IntRange(1), help="Tokens compared.")
@click.option("--column", help="Column of the model's scores, where a file has several (70M, 160M, …).")
@_TRAINING_DATA
def pythia(
    files: tuple[Path, ...], prefix: int, suffix: int, column: str | None, training_data: Path | None, **options: Any
) -> None:
    """Import EleutherAI's memorization evaluations of Pythia.

    FILES: Parquet of pythia-memorized-evals or pile-…-pythia-random-sampled, or CSV of index and accuracy.

    \b
    Examples:
      memindex import pythia duped.12b.parquet -s my-study --model-id pythia-12b
      memindex import pythia train.parquet --column 70M -s my-study --model-id pythia-70m-deduped
    """
    from memindex.importers.chunks import existing
    from memindex.importers.scored import ScoredSource

    existing([training_data] if training_data else [])
    source = ScoredSource("pythia", existing(files), prefix, suffix, column, training_data)
    if source.lists_memorized:
        tell("the files list memorized sequences only: a rate over this run says nothing about the corpus")
    name = options["name"] or _pile(options["model_id"], prefix, suffix)
    import_all([(source, None)], name, options)


@import_.command()
@import_options(decoding="greedy", model_required=False)
@click.option("--prefix", type=click.IntRange(1), help="Tokens given to the model.  [default: by the file's name]")
@click.option("--suffix", type=click.IntRange(1), help="Tokens compared.  [default: by the file's name]")
@_TRAINING_DATA
def mynlp(
    files: tuple[Path, ...], prefix: int | None, suffix: int | None, training_data: Path | None, **options: Any
) -> None:
    """Import memorization_evals_MODEL_PREFIX_TOTAL_STEP.csv of github.com/mynlp/memorizationstudy.

    Several files are the parts of one run, as its processes write them.

    \b
    Example:
      memindex import mynlp memorization_evals_70m-deduped-v0_32_48_143000.csv -s my-study
    """
    from memindex.importers.chunks import existing
    from memindex.importers.scored import ScoredSource, mynlp_name

    existing([training_data] if training_data else [])
    named = mynlp_name(existing(files))
    if named is None and not (options["model_id"] and prefix and suffix):
        raise MemindexError(
            f"{files[0].name} is not called memorization_evals_MODEL_PREFIX_TOTAL_STEP.csv: "
            "give --model-id, --prefix and --suffix"
        )
    if named is not None:
        prefix, suffix = prefix or named.prefix, suffix or named.suffix
        options["model_id"] = options["model_id"] or f"pythia-{named.model}"
        options["source"] = options["source"] or f"EleutherAI/pythia-{named.model}"
        options["revision"] = options["revision"] or named.revision
    assert prefix is not None
    assert suffix is not None
    source = ScoredSource("mynlp", files, prefix, suffix, None, training_data)
    import_all([(source, None)], options["name"] or _pile(options["model_id"], prefix, suffix), options)


@import_.command("lm-extraction")
@import_options(decoding=None, model_required=True)
@click.option("--prefix-file", required=True, type=click.Path(path_type=Path), help="Prefixes: train_prefix.npy.")
@click.option("--suffix-file", required=True, type=click.Path(path_type=Path), help="True suffixes: train_suffix.npy.")
@click.option(
    "--losses",
    multiple=True,
    type=click.Path(path_type=Path),
    help="Losses of the trials, in their order: take each row's best guess.",
)
@click.option("--last", type=click.IntRange(1), help="The guesses are for so many last rows (1000 by the baseline).")
def lm_extraction(
    files: tuple[Path, ...],
    prefix_file: Path,
    suffix_file: Path,
    losses: tuple[Path, ...],
    last: int | None,
    **options: Any,
) -> None:
    """Import generations of the LM extraction benchmark.

    FILES: .npy of generations, one per trial, or one CSV of guesses. Without --losses every trial is a run of its own.

    \b
    Example:
      memindex import lm-extraction generations/*.npy --prefix-file train_prefix.npy --suffix-file train_suffix.npy \\
        --last 1000 -s my-study --model-id gpt-neo-1.3B --decoding sampled --top-k 10 --no-lookup
    """
    from memindex.importers.chunks import existing
    from memindex.importers.lm_extraction import Benchmark, guesses_of

    existing([*files, *losses, prefix_file, suffix_file])
    benchmark = Benchmark(prefix_file, suffix_file, last)
    sources = guesses_of(benchmark, files, losses)
    name = options["name"] or f"lm-extraction {prefix_file.stem.removesuffix('_prefix')}"
    if sources[0].guessed is not None:
        tell(f"{len(sources[0].guessed):,} of {benchmark.rows:,} rows have a guess; of several the first was taken")
    import_all([(source, source.trial) for source in sources], name, options)


@import_.command()
@import_options(decoding="greedy", model_required=False)
@click.option("--tokenizer", help="For texts.  [default: that of the study's index]")
@click.option("--skip-failed", is_flag=True, help="Skip requests that failed; stderr says how many.")
def jsonl(files: tuple[Path, ...], tokenizer: str | None, skip_failed: bool, **options: Any) -> None:
    """Import continuations as JSON lines, from any runner (vLLM, an API).

    One object per line: continuation, and sequence_id (see memindex export) or prefix and suffix; each a list of ids or
    text. Further fields: id, model, domain, document, logprobs, suffix_logprob, token_logprobs, token_ranks, ….

    Output files of vLLM (RequestOutput), OpenAI's batches and vllm run-batch, and completion objects are read as they
    are: custom_id names the sequence, or the prompt is that of a sequence of the study.

    \b
    Examples:
      memindex import jsonl generated.jsonl -s my-study --model-id my-model
      memindex import jsonl batch_output.jsonl -s my-study --skip-failed
    """
    from memindex.corpus.tokenizer import load_tokenizer
    from memindex.importers.chunks import existing
    from memindex.importers.jsonl import JsonlSource
    from memindex.importers.prompts import Prefixes, PromptNaming
    from memindex.importers.study_sequences import StudySequences
    from memindex.study.config import load_study
    from memindex.study.origins import open_index
    from memindex.tables.store import TableStore

    config = load_study(options["study"])
    loaded: list[Any] = []

    def of_texts() -> Any:
        if not loaded:
            loaded.append(load_tokenizer(tokenizer) if tokenizer else open_index(config, config.index).tokenizer)
        return loaded[0]

    store = TableStore(config.tables)
    naming = PromptNaming(Prefixes(store, of_texts))
    source = JsonlSource(existing(files), of_texts, StudySequences(store), naming, tokenizer, skip_failed)
    if not options["model_id"]:
        options["model_id"] = _only_model(source)
    elif models := source.named_models():
        options["source"] = options["source"] or (models.pop() if len(models) == 1 else None)
    import_all([(source, None)], options["name"] or files[0].name.split(".")[0], options)
    if failed := source.met["failed"]:
        tell(f"skipped {failed:,} requests that failed")
    if several := source.met["several"]:
        tell(f"{several:,} requests have several outputs: the one of the lowest index was taken")
    if source.ignored:
        tell(f"fields that are not read: {', '.join(sorted(source.ignored))}")


def _only_model(source: Any) -> str:
    models = sorted(source.named_models())
    if len(models) != 1:
        what = f"name several models ({', '.join(models[:3])}): split them" if models else "name no model"
        raise MemindexError(f"the lines {what}: give --model-id")
    return str(models[0])


def _pile(model_id: str, prefix: int, suffix: int) -> str:
    """Which training sequences: those of the models on the deduplicated Pile are others."""
    return f"{'pile-deduped' if 'deduped' in model_id else 'pile'} {prefix}+{suffix}"
