"""The library that owns the schemas.

`define` and `impl` are used directly: a call through the `custom_op` decorator costs several times as much.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

__all__ = ["define"]

_LIBRARY = torch.library.Library("sparsecore", "DEF")  # type: ignore[no-untyped-call]


def define(
    schema: str,
    *,
    fake: Callable[..., Any],
    backward: Callable[..., Any] | None = None,
    setup_context: Callable[..., None] | None = None,
    **kernels: Callable[..., Any],
) -> Any:
    """Register one operator and return it.

    schema: "name(arguments) -> returns"; fake: shapes and dtypes of the outputs; kernels: dispatch key -> function,
    where CompositeExplicitAutograd serves every device without its own.
    """
    short = schema[: schema.index("(")]
    _LIBRARY.define(schema, tags=(torch.Tag.pt2_compliant_tag,))  # type: ignore[no-untyped-call]
    for key, kernel in kernels.items():
        _LIBRARY.impl(short, kernel, key)  # type: ignore[no-untyped-call]
    torch.library.register_fake(f"sparsecore::{short}", fake, lib=_LIBRARY)
    if backward is not None:
        torch.library.register_autograd(f"sparsecore::{short}", backward, setup_context=setup_context, lib=_LIBRARY)
    return getattr(torch.ops.sparsecore, short).default
