"""The operators on the CUDA kernels of `sparsecore._core`; `reference` computes what has no kernel."""
