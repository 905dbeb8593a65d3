"""Corpora in: files become batches of documents, documents become token ids."""
