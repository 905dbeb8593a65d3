"""Studies: a directory with study.toml and its tables; sampling sequences, running what is missing."""
