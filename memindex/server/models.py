"""Requests and answers of our own API under /v1, as the OpenAPI describes them."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

TokenId = Annotated[int, Field(ge=0, lt=1 << 32)]
Tokens = Annotated[list[TokenId], Field(fail_fast=True)]
Texts = Annotated[list[str], Field(fail_fast=True)]
TokenLists = Annotated[list[Tokens], Field(fail_fast=True)]

#: More than any corpus has tokens, and little enough to be added to any position.
MOST = 1 << 48

AtLeastOne = Annotated[int, Field(ge=1, le=MOST)]
Query = Annotated[str | Tokens, Field(description="A text, or its token ids.")]
Queries = Annotated[Texts | TokenLists, Field(description="Texts, or lists of token ids.", min_length=1)]
Domains = Annotated[
    dict[str, int] | None,
    Field(description="With `by_domain`: occurrences in each domain that has any; a domain that is missing has 0."),
]
TokensUsed = Annotated[list[int], Field(description="The token ids that were asked for.")]


class Asked(BaseModel):
    """A request's body: types as they are, and no fields that nobody reads."""

    model_config = ConfigDict(strict=True, extra="forbid")


class CountRequest(Asked):
    """N-grams to count."""

    queries: Queries
    by_domain: bool = Field(False, description="Also count in every domain.")


class Count(BaseModel):
    """How often one n-gram stands in the corpus."""

    tokens: TokensUsed
    count: int = Field(description="Occurrences, exact.")
    domains: Domains = None


class CountAnswer(BaseModel):
    """One entry per query, in their order."""

    index: str
    counts: list[Count]


class LongestMatchRequest(Asked):
    """Texts whose longest matches are looked for."""

    queries: Queries


class LongestMatch(BaseModel):
    """For every token of a query, the longest match that starts there."""

    tokens: TokensUsed
    lengths: list[int] = Field(description="Tokens of the longest match; 0 where the token never occurs.")
    counts: list[int] = Field(description="Occurrences of that match.")


class LongestMatchAnswer(BaseModel):
    """One entry per query, in their order."""

    index: str
    matches: list[LongestMatch]


class DocumentsRequest(Asked):
    """A query whose documents are asked for."""

    query: Query
    limit: AtLeastOne = Field(10, description="Occurrences told at most, evenly spaced in the order of what follows.")
    max_tokens: AtLeastOne = Field(100, description="Tokens of each excerpt at most; the match stands in the middle.")
    seed: int | None = Field(None, ge=0, lt=1 << 32, description="Take occurrences from a random place on.")


class Source(BaseModel):
    """Where an occurrence stands."""

    shard: int
    document: int = Field(description="Number of the document in its shard.")
    position: int = Field(description="Token of the match in the shard.")
    match: int = Field(description="Token of the match in the document.")
    domain: str | None
    path: str | None = Field(description="The corpus file, as the index has it.")
    line: int | None = Field(description="Line or row in that file, from 1.")


class Document(Source):
    """The text around one occurrence, and where it comes from."""

    document_tokens: int = Field(description="Tokens of the whole document.")
    start: int = Field(description="First token of the excerpt in the document.")
    tokens: list[int] = Field(description="Ids of the excerpt.")
    text: str = Field(description="The excerpt; its ids where the index has no tokenizer.")
    match_characters: tuple[int, int] = Field(description="First and end of the match in `text`.")
    metadata: Any = Field(description="Other fields of the document.")


class DocumentsAnswer(BaseModel):
    """The documents around occurrences of a query."""

    index: str
    tokens: TokensUsed
    count: int = Field(description="All occurrences, exact.")
    documents_at_least: int = Field(description="Documents that hold the query; exact where both are equal.")
    documents_at_most: int
    documents: list[Document]


class NextRequest(Asked):
    """A query whose next tokens are asked for."""

    query: Query
    top: AtLeastOne = Field(10, description="Next tokens told at most.")
    by_domain: bool = Field(False, description="Also count in every domain.")


class Counted(BaseModel):
    """A count, and its share of the query's."""

    count: int
    share: float | None = Field(description="Null where the query never occurs.")
    domains: Domains = None


class NextToken(Counted):
    """One token that follows."""

    token: int
    text: str | None = Field(description="Its text after the query; null without a tokenizer.")


class NextAnswer(Counted):
    """What follows a query."""

    index: str
    tokens: TokensUsed
    distinct: int = Field(description="Distinct next tokens, those not told included.")
    next: list[NextToken] = Field(description="The most frequent ones first.")
    end_of_document: Counted = Field(description="Occurrences that end their document.")


class TraceRequest(Asked):
    """A text whose verbatim spans are looked for."""

    query: Query
    min_tokens: AtLeastOne = Field(8, description="Tokens of a span at least.")
    max_count: AtLeastOne | None = Field(None, description="Leave out spans that occur more often.")
    sources: int = Field(3, ge=0, le=100, description="Occurrences told of each span at most.")
    documents: int = Field(10, ge=0, le=1000, description="Documents told in all at most.")


class Span(BaseModel):
    """A part of the text that stands in the corpus word for word; no longer part that holds it does."""

    start: int = Field(description="First token in the text.")
    length: int = Field(description="Tokens.")
    tokens: list[int]
    text: str | None
    count: int = Field(description="Occurrences, exact.")
    characters: tuple[int, int] | None = Field(description="First and end in the text; null for token ids.")
    rarity: float = Field(
        description="Sum over its tokens of -log2 of the token's share of the corpus: bits that the span would cost "
        "if tokens were drawn one by one."
    )
    sources: list[Source]


class SpanDocument(BaseModel):
    """A document that holds spans of the text."""

    shard: int
    document: int
    domain: str | None
    path: str | None
    line: int | None
    spans: list[int] = Field(description="Places of its spans in `spans`.")
    covered: int = Field(description="Tokens of the text inside these spans.")
    rarity: float = Field(description="That of these spans together; overlaps count once.")


class TraceAnswer(BaseModel):
    """The maximal verbatim spans of a text, in its order."""

    index: str
    tokens: TokensUsed
    covered: int = Field(description="Tokens inside any span.")
    coverage: float = Field(description="Their share of the text.")
    spans: list[Span]
    documents: list[SpanDocument] = Field(
        description="Documents among the sources told, by the rarity of what they share with the text."
    )


class TokenizeRequest(Asked):
    """Texts to tokenize, or token ids to write as text."""

    texts: Queries


class Tokenized(BaseModel):
    """The ids of a text."""

    tokens: list[int]
    text: str = Field(description="The text; that of the ids where ids were given.")
    pieces: list[str] = Field(description="Text of each token after the one before; U+FFFD for parts of characters.")
    characters: list[tuple[int, int]] | None = Field(
        description="First and end of what each token was made from: in order, and together the whole text. "
        "Null for token ids."
    )


class TokenizeAnswer(BaseModel):
    """One entry per text, in their order."""

    index: str
    texts: list[Tokenized]


class DomainInfo(BaseModel):
    """One domain of an index."""

    name: str
    documents: int
    tokens: int


class IndexInfo(BaseModel):
    """What an index holds."""

    name: str
    tokenizer: str | None = Field(description="Null where it is not known: ask with token ids.")
    tokenizer_checksum: str | None
    vocabulary: int
    token_width: int = Field(description="Bytes per token.")
    shards: int
    documents: int
    tokens: int
    created: str | None
    domains: list[DomainInfo]
    studies: list[str] = Field([], description="Studies of this server whose SQL can query it by this name.")


class IndexList(BaseModel):
    """All indexes of this server."""

    indexes: list[IndexInfo]


class Health(BaseModel):
    """Whether the server lives, and whether it takes requests."""

    live: bool
    ready: bool
    waiting: int = Field(description="Requests that wait for a thread.")


#: Bodies that routes read themselves, so that FastAPI does not know of them.
REQUESTS = (CountRequest, LongestMatchRequest, DocumentsRequest, NextRequest, TraceRequest, TokenizeRequest)
