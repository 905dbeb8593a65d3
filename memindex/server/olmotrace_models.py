"""Requests and answers of OLMoTrace's service."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

Positive = Annotated[int, Field(gt=0, le=1 << 32)]


class CamelCase(BaseModel):
    """Fields that JSON knows in camel case."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True)


class SpanRankingMethod(StrEnum):
    """What of the spans is kept where there are too many."""

    LENGTH = "length"
    UNIGRAM_LOGPROB_SUM = "unigram_logprob_sum"


class AttributionRequest(CamelCase):
    """A response, and which of its spans are wanted."""

    response: str
    delimiters: list[str] = Field([], description="Texts that no span goes beyond.")
    allow_spans_with_partial_words: bool = False
    minimum_span_length: Positive = 1
    maximum_frequency: Positive = Field(10, description="Leave out spans that occur more often.")
    maximum_span_density: float = Field(
        0.05, gt=0, allow_inf_nan=False, description="Spans told, per token of the response; from 1 on all of them."
    )
    span_ranking_method: SpanRankingMethod = SpanRankingMethod.LENGTH
    maximum_documents_per_span: Positive = 10
    maximum_context_length: Positive = Field(250, description="Tokens told on each side.")
    maximum_context_length_long: Positive = 100
    maximum_context_length_snippet: Positive = 40


class AttributionDocument(CamelCase):
    """The text around one occurrence of a span."""

    document_index: int
    document_length: int
    display_length: int
    needle_offset: int
    metadata: dict[str, Any]
    token_ids: list[int]
    text: str
    blocked: Literal[False] = False
    display_length_long: int
    needle_offset_long: int
    text_long: str
    display_offset_snippet: int
    needle_offset_snippet: int
    text_snippet: str


class AttributionSpan(CamelCase):
    """One span, from token `left` to `right` (exclusive)."""

    left: int
    right: int
    length: int
    count: int
    unigram_logprob_sum: float
    text: str
    token_ids: list[int]
    documents: list[AttributionDocument]


class AttributionResponse(CamelCase):
    """The spans in the order of the response, and its tokens."""

    index: str
    input_tokens: list[str] = Field(
        description="The response, cut into its tokens: joined they are the response, so a character of several tokens "
        "is in the last of them and the others may be empty."
    )
    spans: list[AttributionSpan]
