"""Model runs: building, training, loading and scoring causal language models (needs the extra `models`)."""
