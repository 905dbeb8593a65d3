"""The HTTP service: lookups in one or several indexes, as infini-gram's API answers them and as our own does.

Everything here needs the extra `server`, but for `config`, which the command line reads its defaults from.
"""
