"""A model file to a workload: from the shapes of its weights, or from a run on real inputs."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from torch import nn

from simulator.files import read_json
from simulator.workload import ModelInfo, ReadRequest, Workload
from simulator.workload import schedule as simulated
from simulator.workload.build import Pattern
from simulator.workload.families import family_named
from simulator.workload.reader import from_sizes
from simulator.workload.recognise import Tensor as Shape
from simulator.workload.recognise import identify, locate
from sparsecore import cascade
from sparsecore.capture import capture
from sparsecore.errors import ConfigError, CorruptFileError, InvalidValueError, MissingDependencyError, UnsupportedError
from sparsecore.io import LoadedCheckpoint
from sparsecore.io.folder import read_config
from sparsecore.io.into import expected_names, load_into
from sparsecore.io.loading import read as read_checkpoint
from sparsecore.models import FAMILIES, Family
from sparsecore.models.blocks import BLOCKS
from sparsecore.models.info import dtype_name
from sparsecore.simulate_decoder import decoder_of, measured_decoder
from sparsecore.simulate_inputs import RealInputs, read_inputs

__all__ = ["cascade_schedule", "described", "measured"]

_BUFFERS = ("position_ids", "token_type_ids")  # older transformers stored them
# The checkpoint is read here, not by transformers; no code of the folder is run; attention is that of the cascade.
_IGNORED = ("quantization_config", "auto_map", "attn_implementation", "_attn_implementation")


def described(path: Path, request: ReadRequest) -> Workload:
    """Return the workload of the weights in a torch file, under an assumed schedule: nothing is run."""
    checkpoint = read_checkpoint(path, trust_pickle=request.trust_pickle)
    info = _sizes(checkpoint, request, _given_config(path, request))
    patterns = {place: _pattern(checkpoint, name) for name in checkpoint if (place := locate(name, info)) is not None}
    return from_sizes(info, request, path.stem, str(path), patterns)


def measured(path: Path, request: ReadRequest) -> Workload:
    """Run the model at `path` on `request.input` under its schedule, one sequence at a time, and return the record."""
    if path.suffix == ".json":
        raise InvalidValueError(
            "a config has no weights to run", where="--input", expected="a model file or a Hugging Face folder"
        )
    checkpoint = read_checkpoint(path, trust_pickle=request.trust_pickle)
    config = _given_config(path, request)
    info = _sizes(checkpoint, request, config)
    schedule = _schedule(request, info)
    if not family_named(info.family).encoder:
        model = decoder_of(checkpoint, config)
        inputs = _inputs(path, request, model, info, 0)
        workload = measured_decoder(model, path, request, inputs, schedule, info.layers)
        notes = (*workload.notes, *inputs.notes)
        return dataclasses.replace(workload, source=f"{path}, run on {request.input}", notes=notes)
    if info.family not in FAMILIES:
        raise UnsupportedError(
            f"a {info.family} model cannot be run on an input in this version",
            where=str(path),
            expected="a decoder, or one of " + ", ".join(sorted(FAMILIES)),
            hint="leave --input out: the schedule is then assumed",
        )
    if request.generate:
        raise InvalidValueError(f"a {info.family} model generates no tokens", where="--generate", expected="0")
    model, unused = _model(checkpoint, FAMILIES[info.family], info, config)
    inputs = _inputs(path, request, model, info, FAMILIES[info.family].first_position)
    asked = cascade_schedule(schedule, info.layers)
    with cascade.apply(model, asked) if asked is not None else nullcontext():
        workload = capture(
            model,
            inputs.batches,
            name=path.stem,
            texts=inputs.texts,
            bits=schedule.bits,
            designs=request.rules,
            keep_tensors=request.keep_tensors,
        )
    notes = (*workload.notes, *inputs.notes, *_notes(asked, unused))
    return dataclasses.replace(workload, source=f"{path}, run on {request.input}", notes=notes)


def _inputs(path: Path, request: ReadRequest, model: nn.Module, info: ModelInfo, first_position: int) -> RealInputs:
    config: Any = model.config
    positions = int(config.max_position_embeddings) - first_position - (request.generate or 0)
    return read_inputs(request.input or "", _tokenizer_folder(path, request), positions, info.vocab)


def cascade_schedule(schedule: simulated.Schedule, layers: int) -> cascade.Schedule | None:
    """Return the pruning that a simulator schedule asks of a model of `layers` layers; None if it prunes no prompt.

    Tokens, heads and V rows follow its ratios per layer, attention runs at its bit widths, and which queries need the
    low bits is found by the run (threshold 0.1, SpAtten's typical one), not taken from its `lsb_share`. As in SpAtten
    the first token is not protected.

    Raises
    ------
    InvalidValueError: the first layer would prune, when no importance is known yet, or widths above 16 bits in all.
    """
    if "summarise" not in schedule.phases:
        return None
    plan, bits = schedule.plan(layers), schedule.bits
    return cascade.Schedule(
        token_keep=tuple(layer.token_keep for layer in plan),
        head_keep=tuple(layer.head_keep for layer in plan),
        value_keep=tuple(layer.value_keep for layer in plan),
        msb_bits=bits.key_msb,
        lsb_bits=bits.key_lsb,
        value_bits=bits.value,
        protect_first=False,
        name=schedule.name,
    )


def _schedule(request: ReadRequest, info: ModelInfo) -> simulated.Schedule:
    if request.schedule is None:
        return simulated.default_schedule(info.family)
    return simulated.load_schedule(request.schedule)


def _given_config(path: Path, request: ReadRequest) -> dict[str, Any] | None:
    """Return the config.json that was asked for, or that lies in the model's folder; None if there is none."""
    if request.config is not None:
        given = Path(request.config)
        return read_json(given / "config.json" if given.is_dir() else given)
    return read_config(path) or None if path.is_dir() else None


def _tokenizer_folder(path: Path, request: ReadRequest) -> Path | None:
    given = path if request.config is None else Path(request.config)
    folder = given if given.is_dir() else given.parent if request.config is not None else None
    return folder if folder is not None and any((folder / name).is_file() for name in _TOKENIZER_FILES) else None


_TOKENIZER_FILES = ("tokenizer.json", "vocab.txt")


def _sizes(checkpoint: LoadedCheckpoint, request: ReadRequest, config: Mapping[str, Any] | None) -> ModelInfo:
    shapes = {
        name: Shape(checkpoint.shape(name), dtype_name(checkpoint.dtype(name)))
        for name in checkpoint
        if not name.endswith(_BUFFERS)
    }
    return identify(shapes, checkpoint.source, request.heads, config)


def _pattern(checkpoint: LoadedCheckpoint, name: str) -> Pattern:
    pattern = checkpoint.pattern(name)
    if pattern is None:
        return Pattern()
    return Pattern(pattern.name, pattern.density(checkpoint[name]))


def _model(
    checkpoint: LoadedCheckpoint, family: Family, info: ModelInfo, config: Mapping[str, Any] | None
) -> tuple[nn.Module, list[str]]:
    """Return the body with the weights of `checkpoint`, in eval mode, and the names that it has no place for."""
    prefix = _prefix(checkpoint, family)
    try:
        from transformers import AutoConfig, AutoModel
    except ImportError as error:
        raise MissingDependencyError(
            "running a model on an input needs transformers", hint='pip install "sparsecore-kernels[hf]"'
        ) from error
    fields = dict(config) if config is not None else _fields(checkpoint, prefix, family, info)
    for key in _IGNORED:
        fields.pop(key, None)
    fields["model_type"] = family.name
    # A pooler is not asked of families that have none.
    options = {"add_pooling_layer": f"{prefix}{family.pooler}.weight" in checkpoint} if family.pooler else {}
    make: Any = AutoModel.from_config
    try:
        body = make(AutoConfig.for_model(**fields), **options)
    except (ValueError, TypeError, RuntimeError, LookupError, AttributeError) as error:
        raise ConfigError(
            f"transformers makes no {family.name} model of the config: {error}", where=checkpoint.source
        ) from error
    body = body.to(checkpoint.dtype(f"{prefix}{family.word_embeddings}.weight")).eval()
    outer = body
    if prefix:  # gives the body's tensors the names that they have in the file
        outer = nn.Module()
        outer.add_module(prefix.removesuffix("."), body)
    expected = expected_names(outer)
    if missing := sorted(expected - set(checkpoint)):
        raise CorruptFileError(
            f"{len(missing)} tensors of the model are missing, the first is {missing[0]!r}",
            where=checkpoint.source,
            expected=f"all {len(expected)} tensors of a {family.name} model",
        )
    load_into(outer, checkpoint, dense=False, strict=False)
    return body, sorted(name for name in set(checkpoint) - expected if not name.endswith(_BUFFERS))


def _prefix(checkpoint: LoadedCheckpoint, family: Family) -> str:
    for prefix in family.prefixes:
        if f"{prefix}{family.word_embeddings}.weight" in checkpoint:
            return prefix
    raise CorruptFileError(
        f"the word embeddings of a {family.name} model are missing",
        where=checkpoint.source,
        expected=" or ".join(f"{prefix}{family.word_embeddings}.weight" for prefix in family.prefixes),
    )


def _fields(checkpoint: LoadedCheckpoint, prefix: str, family: Family, info: ModelInfo) -> dict[str, Any]:
    """Return a config from shapes; what shapes cannot tell (activation, epsilon) is the family's default."""
    rows = {field: f"{prefix}{name}.weight" for field, name in family.table_rows.items()}
    if absent := sorted(name for name in rows.values() if name not in checkpoint):
        raise CorruptFileError(f"the tensor {absent[0]!r} is missing", where=checkpoint.source)
    return {
        "num_hidden_layers": info.layers,
        "num_attention_heads": info.heads,
        "hidden_size": info.hidden,
        BLOCKS[family.name].config_neurons: info.intermediate,
        **{field: checkpoint.shape(name)[0] for field, name in rows.items()},
    }


def _notes(asked: cascade.Schedule | None, unused: list[str]) -> list[str]:
    notes = []
    if asked is not None and asked.lsb_bits:
        notes.append(
            f"queries whose largest probability is below {asked.lsb_threshold} were computed with the low bits"
        )
    if unused:
        more = f" and {len(unused) - 3} more" if len(unused) > 3 else ""
        notes.append("not run, the file has it beside the body: " + ", ".join(unused[:3]) + more)
    return notes
