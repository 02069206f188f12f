"""Cycle-approximate simulator of sparse-attention accelerators."""
