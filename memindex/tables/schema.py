"""The one written truth about memindex's tables: every column with its meaning and unit.

`python -m memindex.tables.schema` prints docs/tables.md. Token ids are int32 everywhere: DuckDB's integer
literals are, and every vocabulary fits. Times are UTC without a zone, because DuckDB's Python client turns
zoned ones into Python values only where pytz is installed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Raised by one when a column is added, removed or changes its meaning; stands in every file's Parquet
#: metadata. A new table leaves it as it is: older files stay right, and a run fills what is missing.
SCHEMA_VERSION = 7

#: Studies from this version on can be added to: what their files lack is told by other columns. Older ones can be asked
#: in SQL, where a column that a file lacks is NULL, or what `Column.before` says.
OLDEST_VERSION = 4

TOKENS = pa.list_(pa.int32())


@dataclass(frozen=True)
class Column:
    """One column: name, Arrow type, meaning (with its unit), whether NULL may stand in it, and the list it tells about.

    A column with `length_of` is filled in by the store; files written before there was such a column lack it. `before`
    is what a text column is in files that are older than it, where that is not NULL.
    """

    name: str
    type: pa.DataType
    meaning: str
    nullable: bool = False
    length_of: str = ""
    before: str | None = None


@dataclass(frozen=True)
class Table:
    """One table: its name, what one row is, its columns, the command that fills it, and what a view is made of."""

    name: str
    row: str
    columns: tuple[Column, ...]
    filled_by: str = "memindex study run STUDY"
    made_of: tuple[str, ...] = ()

    def schema(self) -> pa.Schema:
        """The Arrow schema; each field carries its meaning, the schema the version, as metadata."""
        fields = [pa.field(c.name, c.type, nullable=c.nullable, metadata={"meaning": c.meaning}) for c in self.columns]
        return pa.schema(fields, metadata={"memindex.table": self.name, "memindex.schema_version": str(SCHEMA_VERSION)})


#: What fills the tables of model runs.
_SCORING = "memindex study run STUDY, memindex run -s STUDY --model NAME or memindex import"

MODELS = Table(
    "models",
    "one model (a checkpoint) of the study",
    (
        Column("model_id", pa.string(), "name of the model, unique in the study"),
        Column("family", pa.string(), "series of published models it belongs to: pythia, …", nullable=True),
        Column(
            "corpus",
            pa.string(),
            "corpus it was trained on: by its family, or the index it was trained from",
            nullable=True,
        ),
        Column("architecture", pa.string(), "transformers model type: gpt_neox, llama, …", nullable=True),
        Column("parameters", pa.int64(), "all parameters; tied embeddings are counted once", nullable=True),
        Column(
            "non_embedding_parameters",
            pa.int64(),
            "parameters outside the input and output embeddings",
            nullable=True,
        ),
        Column("layers", pa.int32(), "number of transformer blocks", nullable=True),
        Column("hidden_size", pa.int32(), "width of the residual stream", nullable=True),
        Column("heads", pa.int32(), "attention heads per layer", nullable=True),
        Column("vocabulary", pa.int32(), "rows of the output embedding", nullable=True),
        Column("context", pa.int32(), "longest input in tokens", nullable=True),
        Column("source", pa.string(), "folder or hub name the model was loaded from"),
        Column("revision", pa.string(), "hub revision or checkpoint, when one was named", nullable=True),
        Column("trained_tokens", pa.int64(), "tokens seen in training, when known", nullable=True),
    ),
    filled_by=_SCORING,
)

RUNS = Table(
    "runs",
    "one model scored on the study's sequences under one protocol",
    (
        Column("run_id", pa.string(), "name of the run, unique in the study"),
        Column("model_id", pa.string(), "the model (table models)"),
        Column("prefix_length", pa.int32(), "context tokens given to the model; NULL: they differ", nullable=True),
        Column("suffix_length", pa.int32(), "continuation tokens compared; NULL: they differ", nullable=True),
        Column("decoding", pa.string(), "how continuations were chosen: greedy or sampled"),
        Column("seed", pa.int64(), "seed of sampled continuations", nullable=True),
        Column("top_k", pa.int32(), "likeliest tokens that sampling chose from; NULL: all", nullable=True),
        Column("temperature", pa.float64(), "divisor of the logits in sampling", nullable=True),
        Column(
            "control",
            pa.string(),
            "what makes the run a baseline: shuffled-suffixes (compared with the suffix of another sequence), "
            "untrained (random weights), other-corpus (the model never saw this corpus); NULL: it is none",
            nullable=True,
        ),
        Column(
            "made_by",
            pa.string(),
            "memindex, or the importer that read it: pythia, mynlp, lm-extraction, jsonl",
            before="memindex",
        ),
        Column("dtype", pa.string(), "floating-point type of the weights while scoring", nullable=True),
        Column("device", pa.string(), "where it ran: cpu, or the GPU's name", nullable=True),
        Column("attention", pa.string(), "attention implementation (sdpa, eager, …)", nullable=True),
        Column("compiled", pa.bool_(), "whether torch.compile and CUDA graphs were used", nullable=True),
        Column("model_fingerprint", pa.string(), "tells whether the model's files changed since", nullable=True),
        Column("batch_size", pa.int32(), "sequences per forward pass, at most", nullable=True),
        Column("sequences", pa.int64(), "sequences scored"),
        Column(
            "retokenized",
            pa.bool_(),
            "whether prefix and suffix are the first tokens of the sequence's text by the model's own tokenizer, "
            "and not the ids of the table sequences",
            nullable=True,
        ),
        Column(
            "seconds",
            pa.float64(),
            "time spent scoring, added up over processes, without loading and writing; seconds",
            nullable=True,
        ),
        Column("versions", pa.string(), "memindex, torch and transformers versions"),
        Column("created", pa.timestamp("us"), "when the run finished; UTC"),
    ),
    filled_by=_SCORING,
)

SEQUENCES = Table(
    "sequences",
    "one prefix + suffix sampled from an index",
    (
        Column("sequence_id", pa.int64(), "number of the sequence, unique in the study; imported ones from 2^32 on"),
        Column(
            "sample",
            pa.string(),
            "how it was drawn: uniform, bucket, domain (all without what stands in planted documents), heldout, "
            "planted, or imported",
        ),
        Column(
            "bucket",
            pa.int32(),
            "floor(log2(count of the sequence)); bucket sample only",
            nullable=True,
        ),
        Column(
            "inclusion",
            pa.float64(),
            "probability that the sample includes it: its place in the corpus (uniform, heldout: a row stands for "
            "1 / inclusion sequences of the corpus), or its text wherever it occurs (bucket, domain: "
            "sequence_count / inclusion); 1 for planted; NULL: imported, or an older study",
            nullable=True,
        ),
        Column(
            "planted_text",
            pa.int64(),
            "number of the planted text it is part of, from 0; NULL: not planted, or an older study",
            nullable=True,
        ),
        Column(
            "index",
            pa.string(),
            "index it was drawn from; for an imported one, that one occurrence of it was found in",
            nullable=True,
        ),
        Column("shard", pa.int32(), "shard of that index", nullable=True),
        Column("position", pa.int64(), "token position in the shard of the prefix's first token", nullable=True),
        Column("document", pa.int64(), "row of the shard's document table", nullable=True),
        Column("document_offset", pa.int64(), "tokens of the document before the prefix", nullable=True),
        Column("document_tokens", pa.int64(), "tokens of the document; NULL in older studies", nullable=True),
        Column(
            "first_document",
            pa.int64(),
            "number, among the documents of all shards, of the first one that holds the sequence (of 1,000 occurrences "
            "at most): parts of copies of one text have the same; NULL in older studies",
            nullable=True,
        ),
        Column("domain", pa.string(), "domain of the document", nullable=True),
        Column("prefix_tokens", pa.int32(), "length of prefix; NULL where that is", nullable=True, length_of="prefix"),
        Column("suffix_tokens", pa.int32(), "length of suffix; NULL where that is", nullable=True, length_of="suffix"),
        Column(
            "prefix", TOKENS, "ids of the context given to the model; NULL: not in what was imported", nullable=True
        ),
        Column("suffix", TOKENS, "ids of the true continuation; NULL likewise", nullable=True),
    ),
    filled_by="memindex study run STUDY or memindex import",
)

FREQUENCIES = Table(
    "frequencies",
    "one sequence's counts in the index the models were trained on",
    (
        Column("sequence_id", pa.int64(), "the sequence (table sequences)"),
        Column("index", pa.string(), "index the counts are from"),
        Column("sequence_count", pa.int64(), "occurrences of prefix + suffix"),
        Column("prefix_count", pa.int64(), "occurrences of the prefix"),
        Column("suffix_count", pa.int64(), "occurrences of the suffix"),
    ),
    filled_by="memindex study run STUDY or memindex import",
)

NGRAM_STATISTICS = Table(
    "ngram_statistics",
    "the counts of one sequence's n-grams for one n, in the index the models were trained on; every place in prefix + "
    "suffix is counted",
    (
        Column("sequence_id", pa.int64(), "the sequence (table sequences)"),
        Column("index", pa.string(), "index the counts are from"),
        Column("n", pa.int32(), "tokens of an n-gram"),
        Column("ngrams", pa.int64(), "n-grams of the sequence: its tokens - n + 1"),
        Column("min_count", pa.int64(), "occurrences of the rarest one"),
        Column("q25_count", pa.float64(), "first quartile of the counts, linear between two of them"),
        Column("median_count", pa.float64(), "median of the counts"),
        Column("q75_count", pa.float64(), "third quartile of the counts"),
        Column("max_count", pa.int64(), "occurrences of the most frequent one"),
        Column("mean_count", pa.float64(), "mean of the counts"),
        Column(
            "mean_log_frequency",
            pa.float64(),
            "mean of ln(count / tokens of the index), the mean log unigram frequency where n is 1; nats; "
            "-inf: one never occurs",
        ),
    ),
    filled_by="memindex study run STUDY --only frequencies",
)

DOMAIN_COUNTS = Table(
    "domain_counts",
    "one domain of the index the models were trained on, in which one sequence occurs",
    (
        Column("sequence_id", pa.int64(), "the sequence (table sequences)"),
        Column("index", pa.string(), "index the counts are from"),
        Column("domain", pa.string(), "the domain"),
        Column("count", pa.int64(), "occurrences of prefix + suffix in it; together they are sequence_count"),
    ),
    filled_by="memindex study run STUDY --only frequencies",
)

BUCKETS = Table(
    "buckets",
    "one frequency of sequences in the index the models were trained on, but for those that stand in planted documents"
    "; filled with the bucket sample",
    (
        Column("index", pa.string(), "index the numbers are from"),
        Column("length", pa.int32(), "prefix + suffix; tokens"),
        Column("bucket", pa.int32(), "floor(log2(count of a sequence))"),
        Column("distinct", pa.int64(), "distinct sequences of that length in the corpus"),
        Column("sequences", pa.int64(), "sequences of that length in the corpus: each as often as it occurs"),
        Column("sampled", pa.int64(), "distinct sequences that the study drew for its bucket sample"),
    ),
    filled_by="memindex study run STUDY, with per_bucket above 0 in the study.toml",
)

CONTINUATIONS = Table(
    "continuations",
    "what one run generated after one prefix",
    (
        Column("run_id", pa.string(), "the run (table runs)"),
        Column("sequence_id", pa.int64(), "the sequence (table sequences)"),
        Column("score", pa.float32(), "share of suffix positions where continuation equals suffix; 0..1"),
        Column(
            "matched",
            pa.int32(),
            "continuation tokens equal to the suffix before the first mismatch; NULL: only a score was imported",
            nullable=True,
        ),
        Column("memorized", pa.bool_(), "score = 1: the whole suffix was generated"),
        Column(
            "edit_distance",
            pa.int32(),
            "tokens to insert, delete or replace that make the continuation the suffix (Levenshtein); NULL likewise",
            nullable=True,
        ),
        Column(
            "bleu",
            pa.float32(),
            "BLEU-4 of the continuation against the suffix, over token ids; 0..1; NULL likewise",
            nullable=True,
        ),
        Column(
            "suffix_logprob",
            pa.float32(),
            "log-probability of the suffix after the prefix; nats, teacher-forced",
            nullable=True,
        ),
        Column(
            "suffix_logprob_top40",
            pa.float32(),
            "the same when each token is drawn from the 40 likeliest (Hayes et al. 2024); -inf: one is not among them",
            nullable=True,
        ),
        Column(
            "prefix_logprob",
            pa.float32(),
            "log-probability of the prefix after its first token; nats, teacher-forced; NULL for one token",
            nullable=True,
        ),
        Column(
            "token_logprobs",
            pa.list_(pa.float32()),
            "log-probability of each suffix token; nats",
            nullable=True,
        ),
        Column(
            "token_ranks",
            pa.list_(pa.int32()),
            "number of tokens that were likelier than each suffix token; 0: it was generated, so an equally likely "
            "token that was not counts from 1",
            nullable=True,
        ),
        Column("continuation", TOKENS, "ids the model generated; NULL likewise", nullable=True),
    ),
    filled_by=_SCORING,
)

SPANS = Table(
    "spans",
    "the longest part of one continuation that stands in the index the models were trained on, the first of equally "
    "long ones; none for retokenized runs, nor for sequences that were imported without a lookup",
    (
        Column("run_id", pa.string(), "the run (table runs)"),
        Column("sequence_id", pa.int64(), "the sequence (table sequences)"),
        Column("index", pa.string(), "index it stands in"),
        Column("start", pa.int64(), "tokens of the continuation before it"),
        Column("length", pa.int64(), "its tokens; 0: none of the continuation's tokens occurs"),
        Column("count", pa.int64(), "its occurrences; 0 where length is"),
        Column("shard", pa.int32(), "shard of one occurrence; NULL where there is none", nullable=True),
        Column("position", pa.int64(), "token position of that occurrence in the shard", nullable=True),
        Column("document", pa.int64(), "row of the shard's document table; NULL likewise", nullable=True),
        Column("domain", pa.string(), "domain of that document; NULL also in an index without domains", nullable=True),
    ),
    filled_by="memindex study run STUDY --only spans",
)

_TRAINING = (
    Column("model_id", pa.string(), "the model (table models)"),
    Column("sequence_id", pa.int64(), "the sequence (table sequences)"),
)

EXPOSURES = Table(
    "exposures",
    "when in training one model read one sequence (samples uniform, bucket, domain, planted) as a whole: prefix and "
    "suffix in one training window; of models that memindex train made of the study's index, and sequences of at most "
    "4,096 occurrences",
    (
        *_TRAINING,
        Column("exposures", pa.int64(), "how often: occurrences in windows that hold all of it, over all passes"),
        Column(
            "cut", pa.int64(), "occurrences that the edge of a window cut, in one pass or more, so that a part was read"
        ),
        Column("first_step", pa.int64(), "first step that read it, from 0; NULL: none did", nullable=True),
        Column("last_step", pa.int64(), "last step that read it; NULL likewise", nullable=True),
        Column("first_tokens", pa.int64(), "training tokens until the end of first_step; NULL likewise", nullable=True),
        Column("last_tokens", pa.int64(), "training tokens until the end of last_step; NULL likewise", nullable=True),
    ),
    filled_by="memindex study run STUDY --only exposures",
)

PLANTED_EXPOSURES = Table(
    "planted_exposures",
    "the training window in which one model read one copy of one planted sequence in one pass, or at least its first "
    "token; no row where that was not read; models and sequences as in exposures",
    (
        *_TRAINING,
        Column("copy", pa.int64(), "number of the copy, from 0, in the order of the index"),
        Column("pass", pa.int64(), "number of the pass over the index, from 0"),
        Column("step", pa.int64(), "step that read the window, from 0"),
        Column("step_row", pa.int64(), "number of the window in that step, from 0"),
        Column("window_offset", pa.int64(), "tokens of the window before the copy"),
        Column("whole", pa.bool_(), "whether the window holds all of prefix and suffix"),
    ),
    filled_by="memindex study run STUDY --only exposures, with planted in the study.toml",
)

INDEXES = Table(
    "indexes",
    "one index that the tables were made from, as it was then; `documents` and `corpora` show it as it is now",
    (
        Column("index", pa.string(), "name of the index: of its directory"),
        Column("checksum", pa.string(), "tells whether its tokens, domains or tokenizer changed since; BLAKE3"),
        Column("tokenizer", pa.string(), "name of its tokenizer; NULL: not known", nullable=True),
        Column("documents", pa.int64(), "its documents"),
        Column("tokens", pa.int64(), "its tokens, separators not counted"),
        Column("domains", pa.int32(), "its domains; 0: it has no labels"),
        Column("shards", pa.int32(), "its shards"),
    ),
    filled_by="memindex study run STUDY or memindex import",
)

PROBES = Table(
    "probes",
    "one probe of one run that is finished: a measurement inside the model, whose rows stand in the table of its name",
    (
        Column("run_id", pa.string(), "the run whose memorized sequences were looked at (table runs)"),
        Column("probe", pa.string(), "what was measured: compression, …; the name of its table"),
        Column(
            "sample",
            pa.string(),
            "the sample that all of its sequences are from (sequences.sample); NULL: several samples, unweighted, as "
            "memindex took them before schema version 7",
            nullable=True,
        ),
        Column("sequences", pa.int64(), "sequences measured; 0: the run memorized none of the sample"),
        Column("settings", pa.string(), "how: [probes] of study.toml and the options of memindex probe; JSON"),
        Column("dtype", pa.string(), "floating-point type of the weights; empty without sequences"),
        Column("device", pa.string(), "where it ran: cpu, or the GPU's name; empty likewise"),
        Column("attention", pa.string(), "attention implementation (sdpa, eager, …); empty likewise"),
        Column("batch_size", pa.int32(), "rows per forward pass, at most; 0 likewise"),
        Column("seconds", pa.float64(), "time spent measuring, added up over processes; seconds"),
        Column("versions", pa.string(), "memindex, torch and transformers versions; JSON"),
        Column("created", pa.timestamp("us"), "when it finished; UTC"),
    ),
    filled_by="memindex probe NAME -s STUDY",
)

COMPRESSION = Table(
    "compression",
    "how little context one memorized sequence of one run needs: k tokens work where greedy decoding after the last k "
    "tokens of the prefix gives the whole suffix; every k was tried",
    (
        Column("run_id", pa.string(), "the run (table runs)"),
        Column("sequence_id", pa.int64(), "the sequence (table sequences); memorized by the run"),
        Column("context_length", pa.int32(), "tokens of the run's prefix"),
        Column(
            "needed",
            pa.int32(),
            "fewest context tokens that work; NULL: none does, not even all, which happens where half precision rounds "
            "otherwise than in the run",
            nullable=True,
        ),
        Column(
            "needed_monotone",
            pa.int32(),
            "fewest context tokens such that they and every longer context work; NULL: all of them don't",
            nullable=True,
        ),
        Column("failures", pa.int32(), "context lengths above needed that don't work; 0: more context never hurts"),
        Column("ratio", pa.float64(), "compression ratio: needed / context_length; NULL likewise", nullable=True),
        Column("lengths", pa.list_(pa.int32()), "all context lengths that work, ascending; tokens"),
    ),
    filled_by="memindex probe compression -s STUDY",
)

_COMPARED = (
    Column("run_id", pa.string(), "the run (table runs)"),
    Column("sequence_id", pa.int64(), "the sequence (table sequences)"),
    Column("outcome", pa.string(), "what the run made of it: memorized (score 1), half-memorized, or unmemorized (0)"),
    Column("drawn", pa.bool_(), "whether it was drawn at random from the sequences of its outcome"),
    Column(
        "pair",
        pa.int64(),
        "the memorized sequence of its trio: a memorized, a half-memorized and an unmemorized sequence of one domain "
        "and frequency bucket, whose prefixes' log-perplexities differ by 0.25 nats at most; NULL: it is in none",
        nullable=True,
    ),
)

NOISE = Table(
    "noise",
    "one sequence of one run, read with what the run generated, under relative Gaussian noise of one strength and "
    "draw: h + alpha * rms(h) * e on the residual stream before the first layer, e drawn from N(0, 1)",
    (
        *_COMPARED,
        Column("alpha", pa.float64(), "strength of the noise, a share of the stream's root mean square; 0: none"),
        Column("draw", pa.int32(), "number of the draw, from 0; the same noise for every alpha"),
        Column("continuation_length", pa.int32(), "tokens that the run generated"),
        Column("kept", pa.int32(), "of these, tokens that are still generated before the first other one"),
        Column("logprob", pa.float32(), "log-probability of what the run generated; nats, teacher-forced"),
        Column(
            "similarity",
            pa.list_(pa.float32()),
            "cosine of noised and clean residual stream, before the first layer (first) and after each one; mean over "
            "the tokens that the continuation is predicted from",
        ),
    ),
    filled_by="memindex probe noise -s STUDY",
)

PERTURBATION = Table(
    "perturbation",
    "one sequence of one run, read with what the run generated, once for each prefix token replaced by another one",
    (
        *_COMPARED,
        Column("draw", pa.int32(), "number of the draw, from 0"),
        Column("continuation_length", pa.int32(), "tokens that the run generated"),
        Column("replacements", TOKENS, "the id that took each prefix token's place, drawn from the study's prefixes"),
        Column(
            "kept",
            pa.list_(pa.int32()),
            "for each place, tokens of what the run generated that still are, before the first other one",
        ),
    ),
    filled_by="memindex probe perturbation -s STUDY",
)

LAYER_DECODING = Table(
    "layer_decoding",
    "what one layer of one run's model says about the tokens that the run generated for one sequence: final norm and "
    "unembedding on the residual stream after the layer",
    (
        *_COMPARED,
        Column("layer", pa.int32(), "the layer, from 1; 0: the embeddings, before the first one"),
        Column("layers", pa.int32(), "layers of the model"),
        Column("probability", pa.list_(pa.float32()), "of each generated token"),
        Column("rank", pa.list_(pa.int32()), "number of tokens that were likelier than each; 0: it was the likeliest"),
        Column("entropy", pa.list_(pa.float32()), "of the layer's distribution in the place of each; nats"),
    ),
    filled_by="memindex probe layer_decoding -s STUDY",
)

HEAD_IMPORTANCE = Table(
    "head_importance",
    "one layer of one run's model on one memorized sequence: what is left of the suffix when one attention head at a "
    "time says something else",
    (
        Column("run_id", pa.string(), "the run (table runs)"),
        Column("sequence_id", pa.int64(), "the sequence (table sequences); memorized by the run"),
        Column(
            "replacement",
            pa.string(),
            "what the head's output is replaced by: others (the mean of the other heads of its layer), zero, or mean "
            "(its own over the prefixes of the study's first 256 sequences)",
        ),
        Column("layer", pa.int32(), "the layer, from 1"),
        Column("layers", pa.int32(), "layers of the model"),
        Column("continuation_length", pa.int32(), "tokens of the suffix"),
        Column(
            "right",
            pa.list_(pa.int32()),
            "for each head, suffix tokens that are still the likeliest in their place, teacher-forced",
        ),
        Column("kept", pa.list_(pa.int32()), "for each head, those before the first that is not: generated as before"),
        Column(
            "rescaled",
            pa.list_(pa.float32()),
            "for each head, factor that the norm after the output projection (OLMo 2 and 3) puts on what the other "
            "heads say, because this one changed; mean over tokens; NULL: there is no such norm",
            nullable=True,
        ),
    ),
    filled_by="memindex probe head_importance -s STUDY",
)

TABLES: dict[str, Table] = {
    t.name: t
    for t in (
        MODELS,
        RUNS,
        SEQUENCES,
        FREQUENCIES,
        NGRAM_STATISTICS,
        DOMAIN_COUNTS,
        BUCKETS,
        CONTINUATIONS,
        SPANS,
        EXPOSURES,
        PLANTED_EXPOSURES,
        INDEXES,
        PROBES,
        COMPRESSION,
        NOISE,
        PERTURBATION,
        LAYER_DECODING,
        HEAD_IMPORTANCE,
    )
}


DOCUMENTS = Table(
    "documents",
    "one document of an index of the study (from the indexes' documents.parquet)",
    (
        Column("index", pa.string(), "index it stands in: the name of its directory"),
        Column("shard", pa.int32(), "shard of that index"),
        Column("document", pa.int64(), "number of the document in the shard"),
        Column("first_token", pa.int64(), "token position in the shard of its first token"),
        Column("tokens", pa.int64(), "length in tokens"),
        Column("domain", pa.string(), "label it carries in the corpus"),
        Column("path", pa.string(), "corpus file it was read from"),
        Column("line", pa.int64(), "line (or record) of that file, counted from 1", nullable=True),
        Column("metadata", pa.string(), "what else the corpus says about it; JSON", nullable=True),
    ),
    filled_by="memindex index build (or index open), where study.toml says its indexes are",
)

CORPORA = Table(
    "corpora",
    "one domain of an index of the study",
    (
        Column("index", pa.string(), "the index"),
        Column("domain", pa.string(), "the domain"),
        Column("documents", pa.int64(), "documents that carry it"),
        Column("tokens", pa.int64(), "tokens of those documents"),
    ),
    made_of=("documents",),
)


def _column(table: Table, name: str, nullable: bool = False) -> Column:
    """The column `name` of `table`, for a view that shows it; NULL may come in by an outer join."""
    column = next(c for c in table.columns if c.name == name)
    return Column(name, column.type, column.meaning, nullable or column.nullable)


_RUN = (
    *(_column(RUNS, name) for name in ("run_id", "model_id")),
    Column("run_label", pa.string(), "model_id, and the run_id behind it where the view has several runs of the model"),
    *(
        _column(MODELS, name)
        for name in (
            "family",
            "corpus",
            "architecture",
            "parameters",
            "non_embedding_parameters",
            "revision",
            "trained_tokens",
        )
    ),
    *(_column(RUNS, name) for name in ("prefix_length", "suffix_length")),
)

_PROTOCOL = tuple(
    _column(RUNS, name) for name in ("decoding", "seed", "top_k", "temperature", "control", "made_by", "dtype")
)

_SEQUENCE = (
    *(
        _column(SEQUENCES, name)
        for name in (
            "sequence_id",
            "sample",
            "bucket",
            "inclusion",
            "domain",
            "document",
            "document_offset",
            "document_tokens",
        )
    ),
    *(_column(SEQUENCES, name) for name in ("index", "shard", "position")),
    Column(
        "cluster",
        pa.int64(),
        "a number for each document, for rate_interval: the first one that holds the sequence, as copies of one text "
        "are not independent observations; for planted sequences the text; a sequence without a document has one of "
        "its own",
    ),
    *(_column(FREQUENCIES, name, nullable=True) for name in ("sequence_count", "prefix_count", "suffix_count")),
    Column(
        "duplicates",
        pa.int64(),
        "occurrences elsewhere: sequence_count, less the one that the sequence was drawn from",
        nullable=True,
    ),
    Column(
        "frequency_bucket",
        pa.int32(),
        "floor(log2(sequence_count)); NULL where that is 0 or not counted",
        nullable=True,
    ),
    Column("unseen", pa.bool_(), "from the held-out sample, and the index counts its suffix 0 times"),
)

_OUTCOME = (
    *(_column(CONTINUATIONS, name) for name in ("score", "matched", "memorized", "edit_distance", "bleu")),
    Column(
        "approximate",
        pa.bool_(),
        "bleu above 0.75 (Ippolito et al. 2023) or edit_distance at most a tenth of suffix_length; NULL: not known",
        nullable=True,
    ),
    _column(CONTINUATIONS, "suffix_logprob"),
    Column("p_z", pa.float64(), "probability of the suffix after the prefix: exp(suffix_logprob)", nullable=True),
    Column("p_z_top40", pa.float64(), "the same when each token is drawn from the 40 likeliest", nullable=True),
    Column(
        "discoverable_n",
        pa.float64(),
        "samples (top-k 40) until one is the suffix with probability 0.5: the smallest n with "
        "1 - (1 - p_z_top40)^n >= 0.5 (Hayes et al. 2024); NULL: never; other p: discoverable_n(p_z_top40, p)",
        nullable=True,
    ),
    Column(
        "prefix_perplexity",
        pa.float64(),
        "exp of minus the mean log-probability of the prefix; NULL: not known, or infinite",
        nullable=True,
    ),
    Column(
        "suffix_perplexity",
        pa.float64(),
        "exp of minus the mean log-probability of the suffix; NULL: not known, or infinite",
        nullable=True,
    ),
    Column(
        "prefix", TOKENS, "ids of the context given to the model; NULL: not known, or tokenized anew", nullable=True
    ),
    Column(
        "suffix",
        TOKENS,
        "ids of the sequence's own continuation, as many as the run compared; NULL likewise",
        nullable=True,
    ),
    _column(CONTINUATIONS, "continuation"),
)

MEMORIZATION = Table(
    "memorization",
    "one sequence under one run of the main protocol (greedy, with the sequence's whole prefix and suffix, no "
    "control), with the model, the sequence and its counts in the index of study.toml",
    (*_RUN, *_SEQUENCE, *_OUTCOME),
    made_of=("sequences", "models", "runs", "continuations"),
)

MEMORIZATION_RUNS = Table(
    "memorization_runs",
    "one sequence under one run of any protocol, controls too; counts are of the whole sequence, however much of it "
    "the run used, and a control with shuffled suffixes was compared with the suffix of another sequence",
    (*_RUN, *_PROTOCOL, *_SEQUENCE, *_OUTCOME),
    made_of=("sequences", "models", "runs", "continuations"),
)

#: What a connection shows beside the tables; never written, always computed.
VIEWS: dict[str, Table] = {t.name: t for t in (MEMORIZATION, MEMORIZATION_RUNS, DOCUMENTS, CORPORA)}


def markdown() -> Iterator[str]:
    """The lines of docs/tables.md."""
    yield "# Tables"
    yield ""
    yield f"Generated by `python -m memindex.tables.schema` (version {SCHEMA_VERSION}); do not edit."
    yield ""
    yield "A study keeps each table as Parquet files under `tables/NAME/`. `memindex.connect(study)` shows"
    yield "them as DuckDB views of the same names, and joins them in `memorization` and `memorization_runs`."
    for table in TABLES.values():
        yield from _section(table)
    yield from ("", "# Views", "", "Computed on the connection from the tables and the study's indexes.")
    for table in VIEWS.values():
        yield from _section(table)


def _section(table: Table) -> Iterator[str]:
    yield from ("", f"## {table.name}", "", f"One row: {table.row}.", "")
    if table.name in TABLES:
        yield from (f"Filled by: {table.filled_by}.", "")
    yield from ("| column | type | meaning |", "| --- | --- | --- |")
    for c in table.columns:
        yield f"| `{c.name}` | {_type_name(c.type)}{' or NULL' if c.nullable else ''} | {c.meaning} |"


def _type_name(type_: pa.DataType) -> str:
    """The Arrow type as readers write it; a list's child name says nothing."""
    return f"list<{type_.value_type}>" if pa.types.is_list(type_) else str(type_)


if __name__ == "__main__":
    print("\n".join(markdown()))
