"""A decoder's checkpoint, run on real inputs: prompts, and tokens that it generates after them."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from simulator.workload import ReadRequest, Workload
from simulator.workload import schedule as simulated
from sparsecore import cascade
from sparsecore.capture import capture
from sparsecore.errors import ConfigError, CorruptFileError, InvalidValueError, MissingDependencyError
from sparsecore.io import LoadedCheckpoint
from sparsecore.io.into import expected_names, load_into
from sparsecore.simulate_inputs import RealInputs

__all__ = ["decoder_of", "measured_decoder"]

# The checkpoint is read here, not by transformers; no code of the folder is run.
_IGNORED = ("quantization_config", "auto_map", "attn_implementation", "_attn_implementation")


def decoder_of(checkpoint: LoadedCheckpoint, config: Mapping[str, Any] | None) -> nn.Module:
    """Return the model with the weights of `checkpoint`, with its language head, in eval mode.

    Raises
    ------
    InvalidValueError: no config. ConfigError: transformers makes no model of it. CorruptFileError: tensors are missing.
    """
    if config is None:
        raise InvalidValueError(
            "a decoder cannot be run from tensor shapes alone",
            where=checkpoint.source,
            expected="its Hugging Face folder, or its config.json",
            hint="--config FOLDER",
        )
    try:
        from transformers import AutoConfig, AutoModelForCausalLM
    except ImportError as error:
        raise MissingDependencyError(
            "running a model on an input needs transformers", hint='pip install "sparsecore-kernels[hf]"'
        ) from error
    fields = {key: value for key, value in config.items() if key not in _IGNORED}
    make: Any = AutoModelForCausalLM.from_config
    try:
        model: Any = make(AutoConfig.for_model(**fields))
    except (ValueError, TypeError, RuntimeError, LookupError, AttributeError) as error:
        raise ConfigError(f"transformers makes no decoder of the config: {error}", where=checkpoint.source) from error
    prefix = f"{model.base_model_prefix}."
    headed = any(name.startswith(prefix) for name in checkpoint)
    target = model if headed else model.base_model
    tied = set(getattr(model, "all_tied_weights_keys", None) or ())
    if missing := sorted(expected_names(target) - set(checkpoint) - tied):
        raise CorruptFileError(
            f"{len(missing)} tensors of the model are missing, the first is {missing[0]!r}", where=checkpoint.source
        )
    first = next(name for name in sorted(expected_names(target)) if name in checkpoint)
    model = model.to(checkpoint.dtype(first)).eval()
    load_into(target, checkpoint, dense=False, strict=False)
    model.tie_weights()
    decoder: nn.Module = model
    return decoder


def measured_decoder(
    model: nn.Module, path: Path, request: ReadRequest, inputs: RealInputs, schedule: simulated.Schedule, layers: int
) -> Workload:
    """Run `model` on each input, generate `request.generate` tokens (32 if that is open), and return the record."""
    generate = 32 if request.generate is None else request.generate
    with _pruned(model, schedule, layers):
        return capture(
            model,
            [_call(ids) for ids in inputs.batches],
            name=path.stem,
            texts=inputs.texts,
            bits=schedule.bits,
            designs=request.rules,
            keep_tensors=request.keep_tensors,
            generate=generate,
        )


def _call(ids: Tensor) -> dict[str, Tensor]:
    return {"input_ids": ids}


def _pruned(model: nn.Module, schedule: simulated.Schedule, layers: int) -> AbstractContextManager[object]:
    """Apply the schedule's ratios to the generation; nothing where it keeps all, or is about the prompt alone."""
    plan, bits = schedule.plan(layers), schedule.bits
    keeps = all(layer.token_keep == layer.head_keep == layer.value_keep == 1 for layer in plan)
    if keeps or "generate" not in schedule.phases:
        return nullcontext()
    asked = cascade.Schedule(
        token_keep=tuple(layer.token_keep for layer in plan),
        head_keep=tuple(layer.head_keep for layer in plan),
        value_keep=tuple(layer.value_keep for layer in plan),
        msb_bits=bits.key_msb if bits.key_lsb else None,
        lsb_bits=bits.key_lsb or 4,
        value_bits=bits.value if bits.key_lsb else None,
        protect_first=False,
        name=schedule.name,
    )
    return cascade.apply(model, asked, record=True)
