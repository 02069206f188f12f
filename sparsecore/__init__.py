"""Sparse kernels and pruned modules for PyTorch."""
