"""Where the time of a forward pass goes: attention, linear and other, layer by layer."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from types import TracebackType
from typing import Any, cast

from torch import nn

from sparsecore.models import Family, body_of, family_of

__all__ = ["Share", "LayerClock"]


@dataclass(frozen=True, slots=True)
class Share:
    """One part of the time: `layer` is None outside the layers; `scope` is attention, linear or other."""

    layer: int | None
    scope: str


class LayerClock:
    """Times the forward passes of a model of a known family while it is entered.

    In each layer the time in its six projections is *linear*, the time from the last of Q, K and V to the output
    projection is *attention*, and the rest up to the next layer (norms, activation, residuals, gathers of cascade
    pruning) is *other*. Time outside the layers is *other* without a layer, except that of Linears there, such as a
    pooler. The hooks cost a few microseconds a module.

    Parameters
    ----------
    model: a Hugging Face model of a family in `sparsecore.models`; with or without a cascade handle.

    Raises
    ------
    UnsupportedError: another kind of model.
    """

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.family: Family = family_of(model)
        self.seconds: dict[Share, float] = defaultdict(float)
        encoder = body_of(model).get_submodule(self.family.encoder)
        self._layers = list(cast(nn.ModuleList, encoder.get_submodule(self.family.layers)))
        self._hooks: list[Any] = []
        self._started: dict[int, float] = {}
        self._layer: int | None = None
        self._mark = 0.0
        self._inner = 0.0
        self._projected = 0.0

    def __enter__(self) -> LayerClock:
        inside: set[int] = set()
        for index, layer in enumerate(self._layers):
            part = layer.get_submodule
            for name in self.family.projections:
                inside.add(id(part(name)))
                self._time_linear(part(name), index)
            self._before(part(self.family.query), partial(self._enter_layer, index))
            self._before(part(self.family.attention_out), self._end_attention)
        self._after(self._layers[-1].get_submodule(self.family.output_norm), self._leave_layers)
        for module in self.model.modules():
            if hasattr(module, "in_features") and id(module) not in inside:
                self._time_linear(module, None)
        self._before(self.model, self._begin)
        self._after(self.model, self._end)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for hook in self._hooks:
            hook.remove()
        self._hooks = []

    def _before(self, module: nn.Module, call: Callable[[], None]) -> None:
        # Ahead of hooks that others set: their time belongs to the module.
        self._hooks.append(module.register_forward_pre_hook(lambda *_: call(), prepend=True))

    def _after(self, module: nn.Module, call: Callable[[], None]) -> None:
        self._hooks.append(module.register_forward_hook(lambda *_: call()))

    def _time_linear(self, module: nn.Module, layer: int | None) -> None:
        def start() -> None:
            self._started[id(module)] = time.perf_counter()

        def stop() -> None:
            now = time.perf_counter()
            spent = now - self._started.pop(id(module))
            self.seconds[Share(layer, "linear")] += spent
            self._inner += spent
            self._projected = now

        self._before(module, start)
        self._after(module, stop)

    def _begin(self) -> None:
        self._layer, self._mark, self._inner = None, time.perf_counter(), 0.0

    def _close(self) -> None:
        """Book what has passed since the last mark, less what was booked inside it, as other."""
        now = time.perf_counter()
        self.seconds[Share(self._layer, "other")] += max(0.0, now - self._mark - self._inner)
        self._mark, self._inner = now, 0.0

    def _enter_layer(self, index: int) -> None:
        self._close()
        self._layer = index

    def _end_attention(self) -> None:
        spent = time.perf_counter() - self._projected
        self.seconds[Share(self._layer, "attention")] += spent
        self._inner += spent

    def _leave_layers(self) -> None:
        self._close()
        self._layer = None

    def _end(self) -> None:
        self._close()
