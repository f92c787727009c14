"""Compiled kernels (numba): stable hashes, the key index, partitioning."""
