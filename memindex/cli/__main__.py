"""`python -m memindex.cli`: the same as `memindex`."""

from memindex.cli import main

main()
