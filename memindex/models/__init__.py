"""Models: families, sources and shapes, which need no torch; training, loading and scoring, which need `models`.

The package itself imports nothing: a study is opened, checked and queried without torch. The modules that do import
torch refuse with one line where the extra is not installed (`torch_setup`).
"""
