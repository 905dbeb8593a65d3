"""Requests and answers under /v1/studies, as the OpenAPI describes them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import Path
from pydantic import BaseModel, ConfigDict, Field

Outcome = Literal["memorized", "half", "unmemorized"]
Order = Literal["id", "frequency", "score"]
Width = Literal["wide", "narrow"]
SequenceNumber = Annotated[int, Path(ge=0, lt=1 << 63)]
Parameter = str | int | float | bool | None


class StudyName(BaseModel):
    """A study of this server."""

    name: str = Field(description="What it is asked by: its directory's name.")
    title: str


class StudyList(BaseModel):
    """All studies of this server."""

    studies: list[StudyName]


class Model(BaseModel):
    """A model of a study."""

    model_id: str
    family: str | None
    architecture: str | None
    parameters: int | None
    non_embedding_parameters: int | None
    revision: str | None
    trained_tokens: int | None


class Run(BaseModel):
    """One model scored under one protocol."""

    run_id: str
    model_id: str
    prefix_length: int | None
    suffix_length: int | None
    decoding: str
    control: str | None = Field(description="What makes it a baseline; null: it is none.")
    made_by: str
    dtype: str | None
    sequences: int


class Sample(BaseModel):
    """Sequences that were drawn in one way."""

    sample: str
    sequences: int


class Domain(BaseModel):
    """Sequences of one domain."""

    domain: str
    sequences: int


class Bucket(BaseModel):
    """Sequences of one frequency."""

    bucket: int = Field(description="floor(log2(occurrences)); -1: none.")
    sequences: int


class Rate(BaseModel):
    """What one run of the main protocol memorized of one sample."""

    run_id: str
    run_label: str
    sample: str
    sequences: int
    rate: float | None = Field(description="Share of them that are memorized; 0..1.")


class Study(BaseModel):
    """What a study holds."""

    name: str
    title: str
    index: str = Field(description="The index that its models were trained on.")
    indexes: list[str]
    models: list[Model]
    runs: list[Run]
    samples: list[Sample]
    domains: list[Domain]
    buckets: list[Bucket]
    rates: list[Rate]
    questions: list[str] = Field(description="Names of what GET …/questions describes.")


class SqlRequest(BaseModel):
    """A query."""

    model_config = ConfigDict(strict=True, extra="forbid")

    sql: str = Field(min_length=1, description="One SELECT over the tables of docs/tables.md.")
    parameters: dict[str, Parameter] = Field(default_factory=dict, description="Values of what stands in it as $name.")
    limit: int | None = Field(None, ge=1, description="Rows at most; the server has a limit of its own.")


class Column(BaseModel):
    """A column of an answer; `type` is DuckDB's."""

    name: str
    type: str


class Rows(BaseModel):
    """Rows of an answer."""

    columns: list[Column]
    rows: list[list[Any]]
    truncated: bool = Field(description="Whether there are more rows than the limit.")


class Question(BaseModel):
    """A question of queries/."""

    name: str
    title: str
    question: str
    note: str
    parameters: dict[str, str | int | float] = Field(description="With their defaults.")
    allowed: dict[str, str] = Field(description="What else a parameter may be, where that is bounded.")
    figure: str = Field(description="How it is drawn; none: it is a table.")
    sql: str = Field(description="The statement, defaults written out.")
    statement: str = Field(description="The statement with its parameters as $name.")


class QuestionList(BaseModel):
    """All questions, in the order of the report."""

    questions: list[Question]


class SequenceRow(BaseModel):
    """A sequence in a list; texts are null where the index has no tokenizer or is not there."""

    sequence_id: int
    sample: str
    domain: str | None
    sequence_count: int | None
    score: float | None
    matched: int | None
    memorized: bool | None
    prefix: str | None
    suffix: str | None
    continuation: str | None


class SequencePage(BaseModel):
    """A page of sequences."""

    run: str | None
    sequences: list[SequenceRow]
    next: str | None = Field(description="The cursor of the next page; null: this is the last.")


class Aligned(BaseModel):
    """Tokens, and what each adds to the text of those before it."""

    tokens: list[int]
    pieces: list[str] | None


class DocumentOf(BaseModel):
    """The document that a sequence was drawn from."""

    index: str
    shard: int
    document: int
    domain: str | None
    path: str | None
    line: int | None
    tokens: int | None
    offset: int | None = Field(description="Tokens of the document before the prefix.")


class SpanOf(BaseModel):
    """The longest part of a continuation that stands in the corpus."""

    index: str
    start: int
    length: int
    count: int
    domain: str | None


class OutcomeOf(BaseModel):
    """What a run made of a sequence."""

    run_id: str
    model_id: str
    score: float
    matched: int | None
    memorized: bool
    edit_distance: int | None
    bleu: float | None
    suffix_logprob: float | str | None = Field(description="Nats.")
    prefix_perplexity: float | None
    suffix_perplexity: float | None
    token_logprobs: list[float | str | None] | None = Field(None, description="Of each suffix token; nats.")
    token_ranks: list[int | None] | None = Field(None, description="Tokens that were likelier than each.")
    span: SpanOf | None


class RunOf(BaseModel):
    """A run that was asked for a sequence."""

    run_id: str
    model_id: str
    score: float
    memorized: bool


class Sequence(BaseModel):
    """One sequence, token by token."""

    sequence_id: int
    sample: str
    bucket: int | None
    index: str | None
    shard: int | None
    position: int | None
    domain: str | None
    prefix_tokens: int | None
    suffix_tokens: int | None
    sequence_count: int | None = Field(description="Occurrences of prefix + suffix.")
    prefix_count: int | None
    suffix_count: int | None
    document: DocumentOf | None
    domains: dict[str, int] = Field(description="Occurrences of prefix + suffix by domain.")
    outcome: OutcomeOf | None
    prefix: Aligned | None
    suffix: Aligned | None
    continuation: Aligned | None
    right: list[bool] | None = Field(description="Whether each token of the continuation is the suffix's.")
    runs: list[RunOf]
