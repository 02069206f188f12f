"""Recognise a model: sizes from tensor names and shapes, or from a Hugging Face config."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

from simulator.errors import ConfigError, CorruptFileError, InvalidValueError, UnsupportedError, nearest
from simulator.workload.families import FAMILIES, Family, sizes
from simulator.workload.ir import ModelInfo

__all__ = ["Tensor", "from_config", "identify", "locate"]


@dataclass(frozen=True, slots=True)
class Tensor:
    """Shape and element type ("f32", "bf16", ...) of a weight in a file."""

    shape: tuple[int, ...]
    dtype: str


def from_config(config: Mapping[str, Any], where: str, parameters: int = 0, dtype: str = "") -> ModelInfo:
    """Return the sizes in a Hugging Face config.json.

    Raises
    ------
    UnsupportedError: a `model_type` that is not known. ConfigError: a size is missing or no positive integer.
    """
    kind = config.get("model_type")
    family = next((family for family in FAMILIES.values() if kind in family.types), None)
    if family is None:
        known = sorted(name for family in FAMILIES.values() for name in family.types)
        raise UnsupportedError(
            f"the model type {kind!r} is not supported",
            where=where,
            expected="one of " + ", ".join(known),
            hint=nearest(str(kind), known),
        )

    def size(name: str, otherwise: int | None = None) -> int:
        key = family.config.get(name, name)
        value = config.get(key)
        if value is None and otherwise is not None:
            return otherwise
        if type(value) is not int or value < 1:
            raise ConfigError(f"{key} is {value!r}", where=where, expected="an integer of 1 or more")
        return value

    if family.patches is not None:
        _check_patches(config, where)
    hidden, heads = size("hidden"), size("heads")
    return _model_info(
        family.name,
        layers=size("layers"),
        heads=heads,
        kv_heads=size("kv_heads", heads),
        head_dim=size("head_dim", hidden // heads),
        hidden=hidden,
        # GPT-2 configs leave n_inner out where it is four times the hidden size.
        intermediate=size("intermediate", 4 * hidden if family.name == "gpt2" else None),
        vocab=size("vocab", 0) if family.patches is None else len(config.get("id2label") or ()),
        parameters=parameters,
        dtype=dtype or _dtype(config.get("dtype") or config.get("torch_dtype")),
        where=where,
    )


def _check_patches(config: Mapping[str, Any], where: str) -> None:
    """Raise UnsupportedError for images that are not cut into patches of 16 x 16 pixels in three colours."""
    for key, known in (("patch_size", 16), ("num_channels", 3)):
        if config.get(key, known) != known:
            raise UnsupportedError(f"{key} is {config[key]!r}", where=where, expected=str(known))


def _dtype(name: object) -> str:
    return {"float16": "f16", "bfloat16": "bf16"}.get(str(name), "f32")


def _model_info(family: str, *, where: str, **numbers: Any) -> ModelInfo:
    try:
        return ModelInfo(family=family, **numbers)
    except InvalidValueError as error:
        raise CorruptFileError(error.what, where=where, expected=error.expected) from error


def identify(
    tensors: Mapping[str, Tensor], where: str, heads: int | None = None, config: Mapping[str, Any] | None = None
) -> ModelInfo:
    """Return the sizes of the model whose weights `tensors` are.

    Parameters
    ----------
    tensors: every weight of the file by name, [out, in] as torch has them ([in, out] for GPT-2's Conv1D).
    heads: the number of attention heads, which no shape of most families tells. config: a config.json, for the same.

    Raises
    ------
    UnsupportedError: no family has these names. InvalidValueError: the number of heads is needed, or does not fit.
    CorruptFileError: layers are missing or shapes contradict each other.
    """
    parameters = sum(prod(tensor.shape) for tensor in tensors.values())
    family, prefix, layers = _recognise(tensors, where)
    first = f"{prefix}{family.prefix(0)}"
    if config is not None and "model_type" in config:
        info = from_config(config, where, parameters, tensors[f"{first}{family.query}.weight"].dtype)
        if heads not in (None, info.heads):
            raise InvalidValueError(
                f"--heads is {heads}, the config has {info.heads}", where=where, hint="leave --heads out"
            )
    else:
        info = _from_shapes(tensors, family, prefix, layers, heads, parameters, where)
    if info.layers != layers:
        raise CorruptFileError(
            f"the config has {info.layers} layers, the weights have {layers}", where=where, expected="the same number"
        )
    _check_shapes(tensors, family, info, prefix, where)
    return info


def _recognise(tensors: Mapping[str, Tensor], where: str) -> tuple[Family, str, int]:
    """Return the family, what stands before its layers' names, and the number of layers."""
    for family in FAMILIES.values():
        pattern = re.compile(rf"^((?:.*\.)?){family.path}{re.escape(family.query)}\.weight$")
        found: dict[str, set[int]] = {}
        for name in tensors:
            if match := pattern.match(name):
                found.setdefault(match.group(1), set()).add(int(match.group(2)))
        # Other decoders have attention of the same names with another MLP.
        if not any(f"{prefix}{family.prefix(0)}{family.up}.weight" in tensors for prefix in found):
            continue
        if len(found) > 1:
            raise UnsupportedError("the file holds several models", where=where, expected="one of " + ", ".join(found))
        prefix, numbers = found.popitem()
        if numbers != set(range(len(numbers))):
            gap = min(set(range(max(numbers))) - numbers)
            raise CorruptFileError(f"layer {gap} of {max(numbers) + 1} is missing", where=where)
        return (_roberta_or(family, tensors, prefix), prefix, len(numbers))
    raise UnsupportedError(
        "the tensor names are those of no known model",
        where=where,
        expected="a model of the families " + ", ".join(FAMILIES),
        hint="for another model run capture and simulate the workload",
    )


def _roberta_or(family: Family, tensors: Mapping[str, Tensor], prefix: str) -> Family:
    """RoBERTa has BERT's names; it differs by its prefix or by its single token type."""
    types = tensors.get(f"{prefix}embeddings.token_type_embeddings.weight")
    if family.name == "bert" and ("roberta" in prefix or (types is not None and types.shape[:1] == (1,))):
        return FAMILIES["roberta"]
    return family


def _from_shapes(
    tensors: Mapping[str, Tensor],
    family: Family,
    prefix: str,
    layers: int,
    heads: int | None,
    parameters: int,
    where: str,
) -> ModelInfo:
    first, vocabulary = f"{prefix}{family.prefix(0)}", f"{prefix}{family.vocabulary}.weight"
    if vocabulary not in tensors:
        vocabulary = f"{family.vocabulary}.weight"  # a classifier stands beside the model

    def shape(name: str) -> tuple[int, int]:
        tensor = tensors.get(name)
        if tensor is None or len(tensor.shape) != 2:
            raise CorruptFileError(f"the weight {name!r} is missing or not a matrix", where=where)
        rows, columns = tensor.shape
        return (columns, rows) if family.transposed and name != vocabulary else (rows, columns)

    query_out, hidden = shape(f"{first}{family.query}.weight")
    fused = family.key == family.query
    query = query_out // 3 if fused else query_out
    key = query if fused else shape(f"{first}{family.key}.weight")[0]
    head_dim = _head_dim(tensors, first, query, heads, where)
    if key % head_dim:
        raise InvalidValueError(
            f"heads of {head_dim} do not divide the {key} rows of K", where=where, expected="--heads"
        )
    return _model_info(
        family.name,
        layers=layers,
        heads=query // head_dim,
        kv_heads=key // head_dim,
        head_dim=head_dim,
        hidden=hidden,
        intermediate=shape(f"{first}{family.up}.weight")[0],
        vocab=shape(vocabulary)[0] if vocabulary in tensors else 0,
        parameters=parameters,
        dtype=tensors[f"{first}{family.query}.weight"].dtype,
        where=where,
    )


def _head_dim(tensors: Mapping[str, Tensor], first: str, query: int, heads: int | None, where: str) -> int:
    norm = tensors.get(f"{first}self_attn.q_norm.weight")  # Qwen3 and relatives normalise each head by itself
    if norm is not None and heads is None and norm.shape and norm.shape[0] and query % norm.shape[0] == 0:
        return norm.shape[0]
    if heads is None:
        raise InvalidValueError(
            "the number of attention heads cannot be told from the shapes of the weights",
            where=where,
            expected="--heads N, or --config config.json",
            hint="the model's card or its config.json says it (num_attention_heads, n_head)",
        )
    if heads < 1 or query % heads:
        raise InvalidValueError(f"{heads} heads do not divide the {query} rows of Q", where=where, expected="a divisor")
    return query // heads


def _check_shapes(tensors: Mapping[str, Tensor], family: Family, info: ModelInfo, prefix: str, where: str) -> None:
    named = sizes(info)
    for layer in range(info.layers):
        for linear in family.linears:
            name = f"{prefix}{family.prefix(layer)}{linear.name}.weight"
            expected = (named[linear.makes], named[linear.reads])
            expected = expected[::-1] if family.transposed else expected
            tensor = tensors.get(name)
            if tensor is None:
                raise CorruptFileError(f"the weight {name!r} is missing", where=where)
            if tensor.shape != expected:
                raise CorruptFileError(
                    f"the weight {name!r} has the shape {list(tensor.shape)}",
                    where=where,
                    expected=f"{list(expected)}, from the other weights, --heads and --config",
                )


def locate(name: str, info: ModelInfo) -> tuple[int | None, str] | None:
    """Return (layer, name within the layer) of the weight of a linear layer, or None for any other tensor."""
    family = FAMILIES[info.family]
    for linear in family.linears:
        if match := re.search(rf"(?:^|\.){family.path}{re.escape(linear.name)}\.weight$", name):
            return int(match.group(1)), linear.name
    for linear in family.last:
        if name == f"{linear.name}.weight" or name.endswith(f".{linear.name}.weight"):
            return None, linear.name
    return None
