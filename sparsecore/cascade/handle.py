"""What is applied to a model, what its last pass kept, and taking it off again."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any, TypeAlias

from torch import nn

from sparsecore.cascade.schedule import Schedule
from sparsecore.errors import InvalidValueError, UnsupportedError
from sparsecore.models import body_of
from sparsecore.models.info import model_info

if TYPE_CHECKING:
    from types import TracebackType

    from sparsecore.cascade.generation import CascadeCache, GenerationRun
    from sparsecore.cascade.run import CascadeRun
    from sparsecore.cascade.state import CascadeState

    Recorded: TypeAlias = CascadeState | CascadeCache
    Run: TypeAlias = CascadeRun | GenerationRun

__all__ = ["Handle", "handle_of", "switch_attention"]


def handle_of(model: nn.Module) -> Handle | None:
    """Return the handle that is applied to `model`, or None."""
    for module in model.modules():
        for hook in module._forward_pre_hooks.values():
            owner = getattr(hook, "__self__", None)
            if isinstance(owner, Handle):
                return owner
    return None


def switch_attention(model: nn.Module, config: Any, name: str) -> list[tuple[nn.Module, Any]]:
    """Let the parts of `model` that hold `config` ask for the attention `name`; returns them with what they held.

    They get a config of their own, since another model may hold the same object.
    """
    own = copy.copy(config)
    own._attn_implementation = name
    parts: list[tuple[Any, Any]] = [
        (module, config) for module in model.modules() if getattr(module, "config", None) is config
    ]
    for module, _ in parts:
        module.config = own
    return parts


class Handle:
    """Cascade pruning that is applied to a model; also a context manager that removes it at the end.

    One class for each kind of model derives from it and registers hooks that are its bound methods.

    Attributes
    ----------
    model, schedule: as given to `apply`. body: the part of the model that its heads stand on. info: its sizes.
    """

    def __init__(self, model: nn.Module, schedule: Schedule) -> None:
        if handle_of(model) is not None:
            raise UnsupportedError("the model already has a cascade handle", hint="call its remove() first")
        self.model = model
        self.schedule = schedule
        self.body = body_of(model)
        self.info = model_info(model, self.body.config.model_type)  # type: ignore[union-attr, arg-type]
        self._last: Recorded | None = None
        self._hooks: list[Any] = []
        self._configs: list[tuple[Any, Any]] = []

    @property
    def last_run(self) -> Any:
        """What was kept: a CascadeRun of the last forward pass; for a decoder a GenerationRun of all its steps.

        Raises
        ------
        InvalidValueError: there was none yet.
        """
        if self._last is None:
            raise InvalidValueError("the model has not run yet", where="last_run", hint="call the model first")
        run: Run = self._last.record(self.info)
        return run

    def cache(self) -> CascadeCache:
        """Return an empty cache to pass to a decoder's forward or to `generate`; without one they make their own.

        Raises
        ------
        UnsupportedError: the model is an encoder.
        """
        raise UnsupportedError("an encoder has no cache", where="cache")

    def report(self) -> str:
        """Say of the last pass how much of each part of the model it computed, and which part is owed to what."""
        run = self.last_run
        return f"tokens kept {run.token_keep:.1%}, heads kept {run.head_keep:.1%} (means over layers)\n{run.work}"

    def remove(self) -> None:
        """Give the model its own forward back; the handle keeps `last_run`. A second call does nothing."""
        for hook in self._hooks:
            hook.remove()
        for module, config in self._configs:
            module.config = config
        self._hooks, self._configs = [], []

    def __enter__(self) -> Handle:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.remove()
