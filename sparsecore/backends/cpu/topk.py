"""Top-k on the compiled kernels; the meaning, and the dtypes without a kernel, are in `reference.topk`."""

from __future__ import annotations

from sparsecore.backends.reference.topk import topk_select, topk_threshold

__all__ = ["topk_select", "topk_threshold"]
