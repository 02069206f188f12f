"""Finds the weights of a model that could be packed and, for the others, the reason why they must stay dense."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from sparsecore.dtypes import DTYPES
from sparsecore.models import expert_layout, is_conv1d
from sparsecore.nn import SparseExperts, SparseLinear
from sparsecore.nn.sparse_experts import expert_slices
from sparsecore.semi_structured import is_semi_structured

__all__ = ["ON_META", "FilterFn", "Found", "survey"]

FilterFn = Callable[[nn.Module, str], bool]
"""filter_fn(module, name) -> whether the module may be packed."""

# Other tensors are listed where at least this share of them is zero; below it zeros are accidents (a padding row).
_LISTED_ZEROS = 0.01

ON_META = "it is on the meta device and holds no values"

_HALF_PACKED = "the other projection of these experts is packed; this one can no longer be"

# Methods that read a weight only to fill it.
_NOT_FORWARD = re.compile(r"__init__|_?reset_parameters|_init_weights?|extra_repr|tie_weights")


@dataclass(frozen=True, slots=True)
class Found:
    """One weight: `reason` is empty where it may be packed. `name` and `kind` as in `report.Row`.

    weight: the dense weight or 3-D parameter as the model holds it.
    """

    name: str
    kind: str
    module: nn.Module
    weight: Tensor
    reason: str

    @property
    def module_name(self) -> str:
        """Name of the module that owns the weight."""
        return self.name.rpartition(".")[0] if self.kind == "experts" else self.name

    @property
    def matrices(self) -> list[Tensor]:
        """The weight, or that of every expert, as [out_features, in_features] without gradient."""
        weight = self.weight.detach()
        if self.kind == "experts":
            layout = expert_layout(self.module)
            return expert_slices(weight, layout is not None and layout.transposed)
        return [weight.t().contiguous() if self.kind == "Conv1D" else weight]

    @property
    def dense_bytes(self) -> int:
        """Bytes of the dense weight."""
        return self.weight.numel() * self.weight.element_size()

    @property
    def density(self) -> float:
        """Non-zeros over all elements; 1 where nothing can be read, as on the meta device."""
        if is_semi_structured(self.weight):
            return 0.5
        if not _readable(self.weight) or not self.weight.numel():
            return 1.0
        return int(torch.count_nonzero(self.weight.detach())) / self.weight.numel()


def survey(model: nn.Module, filter_fn: FilterFn | None = None) -> Iterator[Found]:
    """Yield every dense linear layer, Conv1D and 3-D parameter of `model`, and every other tensor that holds zeros."""
    names = _names_of_modules(model)
    sharing = _sharing(model)
    for name, module in model.named_modules():
        if isinstance(module, SparseLinear):
            continue
        if isinstance(module, SparseExperts):
            for short in {module.layout.up, module.layout.down} & module._parameters.keys():
                weight = module.get_parameter(short)
                yield Found(f"{name}.{short}" if name else short, "experts", module, weight, _HALF_PACKED)
            continue
        if not (isinstance(module, nn.Linear) or is_conv1d(module)):
            yield from _other_tensors(name, module, sharing, filter_fn)
            continue
        reason = (
            _reparametrised_reason(module)
            or _shared_reason(name, names[id(module)], sharing)
            or _read_reason(model, name)
            or _module_reason(module)
        )
        if not reason and filter_fn is not None and not filter_fn(module, name):
            reason = "excluded by filter_fn"
        yield Found(name, "Conv1D" if is_conv1d(module) else "Linear", module, cast(Tensor, module.weight), reason)


def _other_tensors(
    name: str, module: nn.Module, sharing: dict[str, list[str]], filter_fn: FilterFn | None
) -> Iterator[Found]:
    """Experts and other parameters that `module` itself owns."""
    layout = expert_layout(module)
    for short, parameter in module.named_parameters(recurse=False):
        full = f"{name}.{short}" if name else short
        if layout is not None and short in (layout.up, layout.down):
            reason = _tensor_reason(parameter) or _hook_reason(module)
            if not reason and full in sharing:
                reason = f"its weight is shared with {', '.join(sharing[full])}"
            if not reason and filter_fn is not None and not filter_fn(module, name):
                reason = "excluded by filter_fn"
            yield Found(full, "experts", module, parameter, reason)
            continue
        if _readable(parameter) and parameter.ndim >= 2:
            found = Found(full, type(module).__name__, module, parameter, _other_reason(module, parameter))
            if found.density <= 1 - _LISTED_ZEROS:
                yield found


def _other_reason(module: nn.Module, parameter: Tensor) -> str:
    if isinstance(module, nn.MultiheadAttention):
        return "nn.MultiheadAttention reads this weight itself"
    if parameter.ndim == 3:
        return "a 3-D parameter of a module whose forward is not known"
    return "not the weight of a linear layer"


def _reparametrised_reason(module: nn.Module) -> str:
    if parametrize.is_parametrized(module):
        return "its weight is parametrised (torch.nn.utils.parametrize)"
    if "weight" not in module._parameters:
        return "its weight is recomputed by a hook (pruning or weight normalisation); make it permanent first"
    return ""


def _module_reason(module: nn.Module) -> str:
    """Reason that the module alone gives."""
    if type(module) is not nn.Linear and not is_conv1d(module):
        return f"{type(module).__name__} is a subclass of nn.Linear and may compute something else"
    return _hook_reason(module) or _tensor_reason(cast(Tensor, module.weight))


def _hook_reason(module: nn.Module) -> str:
    hooks = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    if any(getattr(module, name, None) for name in hooks) or any(
        parameter._backward_hooks for parameter in module.parameters(recurse=False)
    ):
        return "it has hooks, which would be lost"
    if "forward" in module.__dict__:
        return "its forward was replaced on the instance"
    return ""


def _tensor_reason(weight: Tensor) -> str:
    if weight.is_meta:
        return ON_META
    if weight.dtype not in DTYPES:
        return f"weights of {weight.dtype} are not supported"
    if is_semi_structured(weight):
        return ""
    if type(weight) is not nn.Parameter:
        return f"its weight is a {type(weight).__name__}"
    if weight.device.type not in ("cpu", "cuda"):
        return f"packing on {weight.device.type} is not supported; sparsify the model on the CPU"
    return ""


def _shared_reason(name: str, names: list[str], sharing: dict[str, list[str]]) -> str:
    if len(names) > 1:
        return f"the layer is also used as {', '.join(other for other in names if other != name)}"
    own = f"{name}.weight" if name else "weight"
    return f"its weight is shared with {', '.join(sharing[own])}" if own in sharing else ""


def _read_reason(model: nn.Module, name: str) -> str:
    """Reason where a module above the layer reads the layer's weight itself, past its forward."""
    steps = name.split(".")
    for depth in range(len(steps)):
        parent = model.get_submodule(".".join(steps[:depth]))
        if ".".join(steps[depth:]) + ".weight" in _weights_read(type(parent).__mro__):
            return f"{type(parent).__name__} reads its weight itself"
    return ""


@cache
def _weights_read(bases: tuple[type, ...]) -> frozenset[str]:
    """Paths that the methods of these classes read as ``self.<path>.weight``, from its source where there is one."""
    found: set[str] = set()
    for base in bases:
        if base in (nn.Module, object):
            continue
        for name, member in vars(base).items():
            function = inspect.unwrap(member) if callable(member) else None
            if not inspect.isfunction(function) or _NOT_FORWARD.fullmatch(name):
                continue
            try:
                source = inspect.getsource(function)
            except (OSError, TypeError):  # compiled or typed in: nothing can be told
                continue
            found.update(re.findall(r"\bself\.([\w.]+\.weight)\b", source))
    return frozenset(found)


def _names_of_modules(model: nn.Module) -> dict[int, list[str]]:
    names: dict[int, list[str]] = {}
    for name, module in model.named_modules(remove_duplicate=False):
        names.setdefault(id(module), []).append(name)
    return names


def _sharing(model: nn.Module) -> dict[str, list[str]]:
    """For each parameter or buffer that shares memory: the names of the others. A view of another tensor shares, too.

    Byte ranges are compared, not storages: a file that is mapped into memory gives all its tensors one storage.
    """
    ranges = sorted(
        (tensor.data_ptr(), tensor.data_ptr() + _extent_bytes(tensor), name)
        for name, tensor in (
            *model.named_parameters(remove_duplicate=False),
            *model.named_buffers(remove_duplicate=False),
        )
        if _readable(tensor) and tensor.numel()
    )
    groups: list[list[str]] = []
    reach = 0
    for start, end, name in ranges:
        if start < reach:
            groups[-1].append(name)
        else:
            groups.append([name])
        reach = max(reach, end)
    return {name: [other for other in group if other != name] for group in groups if len(group) > 1 for name in group}


def _readable(tensor: Tensor) -> bool:
    """Whether elements can be counted: not on the meta device, a sparse layout, sharded, or not initialised yet."""
    plain = type(tensor) in (Tensor, nn.Parameter)
    return plain and not tensor.is_meta and tensor.layout is torch.strided


def _extent_bytes(tensor: Tensor) -> int:
    """Bytes from the first element of a strided tensor to behind its last one."""
    last = sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True))
    return (last + 1) * tensor.element_size()
