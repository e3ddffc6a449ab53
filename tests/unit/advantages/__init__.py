"""A package, so that its tests can share ``peers`` and ``strategies``."""
