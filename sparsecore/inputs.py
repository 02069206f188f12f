"""Inputs of a whole model in the forms that people have them in."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from sparsecore.errors import InvalidValueError

__all__ = ["Batch", "Inputs", "batches", "evaluating"]

Batch = tuple[tuple[Any, ...], dict[str, Any]]
"""Positional and keyword arguments of one call of the model."""

Inputs = Any
"""A tensor, a tuple of positional arguments, a mapping of keyword arguments, or a list of such batches."""


def batches(inputs: Inputs) -> list[Batch]:
    """Return `inputs` as a list of calls; InvalidValueError for another type or an empty list."""
    if isinstance(inputs, list):
        if not inputs:
            raise InvalidValueError("the list of inputs is empty", where="inputs", expected="at least one batch")
        return [_batch(one) for one in inputs]
    return [_batch(inputs)]


def _batch(inputs: Inputs) -> Batch:
    if isinstance(inputs, Tensor):
        return (inputs,), {}
    if isinstance(inputs, Mapping):
        return (), dict(inputs)
    if isinstance(inputs, tuple):
        return inputs, {}
    raise InvalidValueError(
        f"inputs of type {type(inputs).__name__}",
        where="inputs",
        expected="a tensor, a tuple of arguments, a mapping of keyword arguments, or a list of these",
    )


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Run without gradients and in eval mode; every module gets its own mode back."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module in training:
            module.training = True
