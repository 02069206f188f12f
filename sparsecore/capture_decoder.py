"""A decoder with nothing pruned, run on real inputs: its sizes as ops, and its Q, K and V for the rules of designs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from simulator.workload import AttentionOp, Kind, ModelInfo, Workload
from simulator.workload import Sequence as InputSequence
from simulator.workload.build import Pattern, build
from simulator.workload.families import FAMILIES
from simulator.workload.recognise import from_config, locate
from simulator.workload.schedule import BitWidths, load_schedule
from sparsecore.capture_generation import measured
from sparsecore.capture_tensors import AttentionTap, TensorSink, without_cascade
from sparsecore.cascade.handle import Handle, handle_of
from sparsecore.errors import InvalidValueError, UnsupportedError
from sparsecore.inputs import Inputs, batches, evaluating
from sparsecore.models import body_of
from sparsecore.models.call import token_mask
from sparsecore.models.info import dtype_name

if TYPE_CHECKING:
    from sparsecore.cascade.generation import GenerationRun

__all__ = ["capture_decoder", "is_decoder"]

_DECISIONS = ("tokens", "heads", "values", "lsb")


def is_decoder(model: nn.Module) -> bool:
    """Return whether `model` is of a decoder family whose ops the simulator describes."""
    kind = getattr(getattr(model, "config", None), "model_type", None)
    return any(kind in family.types and not family.encoder for family in FAMILIES.values())


def capture_decoder(
    model: nn.Module, inputs: Inputs, generate: int, sink: TensorSink | None, bits: BitWidths | None
) -> Workload:
    """Return what `model` computes on each sequence of `inputs` and on `generate` tokens after it, greedily chosen.

    Sequences run one by one without their padding: the tokens are generated with the model's own cache, then one pass
    over all of them shows Q, K and V to `sink`; the rows of that pass are those of the steps.

    With a cascade handle the attention ops are those of its runs, and the rest follows from them.

    Raises
    ------
    UnsupportedError: a call without input ids, or a model without a head that generates.
    InvalidValueError: no inputs, an empty sequence, or more tokens than the model has positions.
    """
    info = _info(model)
    schedule = load_schedule("none")
    if bits is not None:
        schedule = replace(schedule, bits=bits)
    patterns = dict(_patterns(model, info))
    found: list[Workload] = []
    with evaluating(model):
        for prompt in _prompts(inputs):
            ids, run = _generated(model, prompt, generate)
            built = build(info, schedule, len(prompt), 1, generate, patterns=patterns)
            if run is not None:
                built = measured(built, run, f"sequence{len(found)}")
            if sink is not None:
                pruned = [] if run is None else [replace(op, sequence=len(found)) for op in built.attention]
                sink.begin(torch.ones((1, len(ids)), dtype=torch.bool), [len(prompt)], len(found), pruned, built.arrays)
                with without_cascade(model), AttentionTap(model, sink.take):
                    body_of(model)(input_ids=ids[None], use_cache=False)
            found.append(built)
    parts = [_of_sequence(workload, index) for index, workload in enumerate(found)]
    return replace(
        found[0],
        sequences=tuple(InputSequence(index, part.sequences[0].tokens) for index, part in enumerate(parts)),
        attention=tuple(op for part in parts for op in part.attention),
        linear=tuple(op for part in parts for op in part.linear),
        other=tuple(op for part in parts for op in part.other),
        schedule="measured run",
        source="capture",
        arrays={name: ids for part in parts for name, ids in part.arrays.items()},
        notes=(*found[0].notes[2:], *_notes(handle_of(model))),
    )


def _notes(handle: Handle | None) -> list[str]:
    if handle is not None and handle.schedule.msb_bits is not None:
        return ["the prompt's pass was not quantised: its stored widths of Q, K and V are assumed"]
    return ["the run was not quantised: the stored widths of Q, K and V are assumed"]


def _info(model: nn.Module) -> ModelInfo:
    config: Any = model.config
    weight = next(p for p in model.parameters() if p.is_floating_point())
    count = sum(p.numel() for p in model.parameters())
    return replace(
        from_config(config.to_dict(), type(model).__name__), parameters=count, dtype=dtype_name(weight.dtype)
    )


def _patterns(model: nn.Module, info: ModelInfo) -> Iterator[tuple[tuple[int | None, str], Pattern]]:
    for name, module in model.named_modules():
        packed = getattr(module, "packed", None)
        if packed is not None and (place := locate(f"{name}.weight", info)) is not None:
            yield place, Pattern(packed.pattern.name, packed.stored().density)


def _prompts(inputs: Inputs) -> Iterator[Tensor]:
    """Yield the token ids of each sequence, [tokens]."""
    for args, kwargs in batches(inputs):
        given = {"input_ids": args[0], **kwargs} if args else kwargs
        ids, mask = given.get("input_ids"), token_mask(given)
        if ids is None:
            raise UnsupportedError("a decoder is captured from token ids", where="inputs", expected="input_ids [B, L]")
        for row, held in zip(ids, mask):
            if not held.any():
                raise InvalidValueError("a sequence has no tokens", where="inputs", expected="1 or more")
            yield row[held]


def _generated(model: Any, prompt: Tensor, count: int) -> tuple[Tensor, GenerationRun | None]:
    """Return the prompt with `count` tokens after it, and what the cascade handle's steps over them read, if any."""
    handle: Any = handle_of(model)
    if handle is None:
        return _continued(model, prompt, count, count) if count else prompt, None
    with handle.recording():
        if count:  # the last token of a generation is never read
            ids = _continued(model, prompt, count, count + 1)[:-1]
        else:
            ids = prompt
            body_of(model)(input_ids=prompt[None])
        return ids, handle.last_run


def _continued(model: Any, prompt: Tensor, count: int, made: int) -> Tensor:
    if not getattr(model, "can_generate", lambda: False)():
        raise UnsupportedError(
            f"{type(model).__name__} generates no tokens", where="generate", expected="a model with a language head"
        )
    limit = int(getattr(model.config, "max_position_embeddings", 0) or 0)
    if limit and len(prompt) + count > limit:
        raise InvalidValueError(
            f"{len(prompt)} tokens and {count} more", where="generate", expected=f"at most {limit} positions"
        )
    end = model.generation_config.eos_token_id if model.generation_config.pad_token_id is None else None
    ids = model.generate(
        prompt[None],
        attention_mask=torch.ones_like(prompt)[None],
        min_new_tokens=made,
        max_new_tokens=made,
        do_sample=False,
        num_beams=1,
        **({} if end is None else {"pad_token_id": end if isinstance(end, int) else end[0]}),
    )
    generated: Tensor = ids[0]
    return generated


def _known_bits(op: AttentionOp) -> dict[str, Kind]:
    """Return the kind of the widths of an op that was computed from bit planes."""
    return {"bits": "measured"} if op.key_lsb_bits and op.phase == "generate" else {}


def _of_sequence(workload: Workload, index: int) -> Workload:
    """Return the ops of the one sequence of `workload` as those of number `index`, measured in all but the widths."""
    decided = dict.fromkeys(_DECISIONS, "measured")

    def own(op: Any, kind: dict[str, str]) -> Any:
        return replace(op, sequence=index if op.sequence is not None else None, kind={**op.kind, **kind})

    return replace(
        workload,
        sequences=(InputSequence(0, workload.sequences[0].tokens),) * (index + 1),
        attention=tuple(own(op, {"bits": "assumed", **_known_bits(op), **decided}) for op in workload.attention),
        linear=tuple(own(op, {"tokens": "measured", "pattern": "measured"}) for op in workload.linear),
        other=tuple(own(op, {"tokens": "measured"}) for op in workload.other),
    )
