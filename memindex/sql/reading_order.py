"""The order in which the report, and the server's page, go through the questions."""

from __future__ import annotations

from collections.abc import Iterable

#: Reading order; queries that are not named here follow in the order of their names.
_ORDER = (
    "rate_by_size",
    "rate_by_frequency",
    "rate_by_copies",
    "half_dose",
    "rate_by_passage",
    "rate_by_exposures",
    "rate_by_recency",
    "rate_by_repetition",
    "frequency_in_domains",
    "corpus_by_frequency",
    "unseen_floor",
    "controls",
    "context_curve",
    "score_histogram",
    "approximate",
    "kinds_of_memorization",
    "discoverable",
    "compression",
    "layer_decoding",
    "layer_depth",
    "paired_depths",
    "noise_similarity",
    "noise_recovery",
    "noise_output",
    "noise_domains",
    "perturbation",
    "head_importance",
    "head_depth",
    "head_overlap",
    "head_sharing",
    "head_signature",
    "frequency_of_memorized",
    "ngram_frequency",
    "perplexity_of_memorized",
    "copied_continuations",
    "domain_shares",
    "across_domains",
    "overlap",
    "paired_rates",
    "predictors",
    "most_memorized_documents",
)


def reading_order(known: Iterable[str]) -> list[str]:
    """Names of queries in reading order."""
    names = list(known)
    first = [name for name in _ORDER if name in names]
    return first + [name for name in names if name not in first]
