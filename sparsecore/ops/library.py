"""The library that owns the schemas.

`define` and `impl` are used directly: a call through the `custom_op` decorator costs several times as much.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from functools import wraps
from typing import Any

import torch

__all__ = ["define", "outside_autocast"]

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
        _LIBRARY.impl(short, outside_autocast(kernel), key)  # type: ignore[no-untyped-call]
    torch.library.register_fake(f"sparsecore::{short}", fake, lib=_LIBRARY)
    if backward is not None:
        torch.library.register_autograd(f"sparsecore::{short}", backward, setup_context=setup_context, lib=_LIBRARY)
    return getattr(torch.ops.sparsecore, short).default


def outside_autocast(kernel: Callable[..., Any]) -> Callable[..., Any]:
    """The kernel in the types of its arguments: autocast knows only torch's products, and would lower sums inside."""

    @wraps(kernel)
    def run(*args: Any, **kwargs: Any) -> Any:
        lowering = [device for device in ("cpu", "cuda") if torch.is_autocast_enabled(device)]
        if not lowering:
            return kernel(*args, **kwargs)
        with ExitStack() as stack:
            for device in lowering:
                stack.enter_context(torch.autocast(device, enabled=False))
            return kernel(*args, **kwargs)

    return run
