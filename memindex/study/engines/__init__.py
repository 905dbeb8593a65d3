"""Engines: who does the units of a study's runs. Every one of them gives the same tables."""
