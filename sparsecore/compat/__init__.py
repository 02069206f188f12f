"""The calls of libraries whose sparse kernels are gone, on the kernels here.

`sparsecore.compat.torchao` has the names of torchao.sparsity; `sparsecore.compat.to_sparse_semi_structured` is
torch.sparse's function for CPU tensors of any shape.
"""

from __future__ import annotations

from sparsecore.compat import torchao
from sparsecore.compat.semi_structured import SemiStructuredTensor, to_sparse_semi_structured

__all__ = ["SemiStructuredTensor", "to_sparse_semi_structured", "torchao"]
