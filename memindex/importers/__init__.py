"""Results of other runners, read into a study's tables: one file per format, and what they share.

A reader yields `Chunk`s; `writing.import_run` checks them, looks them up in the index and writes the units.
"""
