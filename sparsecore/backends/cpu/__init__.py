"""The operators on the compiled kernels of `sparsecore._core`."""
