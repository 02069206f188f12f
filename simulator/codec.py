"""Frozen dataclasses to JSON values and back, and their JSON Schema, from the type hints alone.

Only what the published types use is understood: str, int, float, bool, None, Literal, unions, tuples, dicts with string
keys, Any and other dataclasses.
"""

from __future__ import annotations

import dataclasses
import math
import types
import typing
from functools import cache
from typing import Any, TypeVar

from simulator.errors import CorruptFileError, InvalidValueError

__all__ = ["decode", "encode", "json_schema"]

T = TypeVar("T")


def encode(value: object) -> Any:
    """Return `value` as JSON values: dataclasses become objects, tuples become arrays.

    Raises
    ------
    InvalidValueError: a float that JSON cannot hold (NaN, infinity).
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: encode(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {key: encode(item) for key, item in value.items()}
    if isinstance(value, (tuple, list)):
        return [encode(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        raise InvalidValueError(f"JSON cannot hold the number {value}", expected="a finite number")
    return value


def decode(cls: type[T], data: object, where: str = "", ignore_unknown: bool = False) -> T:
    """Build the dataclass `cls` from JSON values, checking every type.

    Parameters
    ----------
    where: the file, for error messages; the path of the field is added to it.
    ignore_unknown: leave out keys that `cls` does not have (files of a newer minor version).

    Raises
    ------
    CorruptFileError: a missing or unknown key, a value of the wrong type, or one that the dataclass itself refuses.
    """
    return typing.cast(T, _decode(cls, data, where, ignore_unknown))


def _decode(hint: Any, data: Any, where: str, lax: bool) -> Any:
    if hint is Any:
        return data
    if dataclasses.is_dataclass(hint):
        return _decode_dataclass(typing.cast(type, hint), data, where, lax)
    origin = typing.get_origin(hint)
    if origin in (typing.Union, types.UnionType):
        return _decode_union(typing.get_args(hint), data, where, lax)
    if origin is typing.Literal:
        if data in typing.get_args(hint):
            return data
        raise _wrong(data, "one of " + ", ".join(map(str, typing.get_args(hint))), where)
    if origin is tuple:
        return _decode_tuple(typing.get_args(hint), data, where, lax)
    if origin is dict:
        if not isinstance(data, dict):
            raise _wrong(data, "an object", where)
        item = typing.get_args(hint)[1]
        return {str(key): _decode(item, value, f"{where}.{key}", lax) for key, value in data.items()}
    return _decode_scalar(hint, data, where)


def _decode_scalar(hint: Any, data: Any, where: str) -> Any:
    if hint is float and isinstance(data, (int, float)) and not isinstance(data, bool):
        if math.isfinite(data):
            return float(data)
    elif (
        hint is not float and isinstance(data, hint) and (hint is bool or not isinstance(data, bool))
    ):  # bool is an int to Python, not to JSON
        return data
    raise _wrong(data, _SCALARS[hint], where)


_SCALARS = {str: "a string", int: "an integer", float: "a finite number", bool: "true or false", type(None): "null"}


def _decode_union(choices: tuple[Any, ...], data: Any, where: str, lax: bool) -> Any:
    failure: CorruptFileError | None = None
    for choice in choices:
        try:
            return _decode(choice, data, where, lax)
        except CorruptFileError as error:
            failure = failure or error
    assert failure is not None
    raise failure


def _decode_tuple(items: tuple[Any, ...], data: Any, where: str, lax: bool) -> tuple[Any, ...]:
    if not isinstance(data, (list, tuple)):
        raise _wrong(data, "an array", where)
    if len(items) == 2 and items[1] is Ellipsis:
        if items[0] is int and all(type(value) is int for value in data):
            return tuple(data)  # the common case, many thousands of times in a workload
        return tuple(_decode(items[0], value, f"{where}[{i}]", lax) for i, value in enumerate(data))
    if len(items) != len(data):
        raise _wrong(data, f"an array of {len(items)}", where)
    return tuple(
        _decode(item, value, f"{where}[{i}]", lax) for i, (item, value) in enumerate(zip(items, data, strict=True))
    )


def _decode_dataclass(cls: type, data: Any, where: str, lax: bool) -> Any:
    if not isinstance(data, dict):
        raise _wrong(data, "an object", where)
    fields = _fields(cls)
    if not lax and (unknown := data.keys() - fields.keys()):
        raise CorruptFileError(f"unknown key {min(unknown)!r}", where=where, expected="one of " + ", ".join(fields))
    values = {}
    for name, (hint, required) in fields.items():
        if name in data:
            values[name] = _decode(hint, data[name], f"{where}.{name}", lax)
        elif required:
            raise CorruptFileError(f"the key {name!r} is missing", where=where, hint="the file may be truncated")
    try:
        return cls(**values)
    except InvalidValueError as error:
        raise CorruptFileError(error.what, where=where, expected=error.expected) from error


@cache
def _fields(cls: type) -> dict[str, tuple[Any, bool]]:
    hints = typing.get_type_hints(cls)
    return {field.name: (hints[field.name], _required(field)) for field in dataclasses.fields(cls)}


def _required(field: dataclasses.Field[Any]) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def _wrong(data: Any, expected: str, where: str) -> CorruptFileError:
    shown = repr(data)
    return CorruptFileError(
        f"the value {shown if len(shown) <= 60 else shown[:57] + '...'} is of the wrong kind",
        where=where,
        expected=expected,
    )


def json_schema(cls: type, title: str, identifier: str) -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) of the dataclass `cls`; descriptions are the classes' first lines."""
    definitions: dict[str, Any] = {}
    body = _schema(cls, definitions)
    name = body["$ref"].rpartition("/")[2]
    top = definitions.pop(name)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": identifier,
        "title": title,
        **top,
        "$defs": dict(sorted(definitions.items())),
    }


_JSON_TYPES = {str: "string", int: "integer", float: "number", bool: "boolean", type(None): "null"}


def _schema(hint: Any, definitions: dict[str, Any]) -> dict[str, Any]:
    if hint is Any:
        return {}
    if dataclasses.is_dataclass(hint):
        return _schema_dataclass(typing.cast(type, hint), definitions)
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return {"anyOf": [_schema(choice, definitions) for choice in arguments]}
    if origin is typing.Literal:
        return {"enum": list(arguments)}
    if origin is dict:
        return {"type": "object", "additionalProperties": _schema(arguments[1], definitions)}
    if origin is tuple and arguments[-1] is Ellipsis:
        return {"type": "array", "items": _schema(arguments[0], definitions)}
    if origin is tuple:
        items = [_schema(item, definitions) for item in arguments]
        return {"type": "array", "prefixItems": items, "minItems": len(items), "maxItems": len(items)}
    return {"type": _JSON_TYPES[hint]}


def _schema_dataclass(cls: type, definitions: dict[str, Any]) -> dict[str, Any]:
    if cls.__name__ not in definitions:
        definitions[cls.__name__] = {}  # reserves the name: a type may refer to itself
        fields = _fields(cls)
        definitions[cls.__name__] = {
            "type": "object",
            "description": (cls.__doc__ or "").strip().partition("\n")[0],
            "properties": {name: _schema(hint, definitions) for name, (hint, _) in fields.items()},
            "required": [name for name, (_, required) in fields.items() if required],
            # Minor versions add keys, and a file of a newer one must still validate.
            "additionalProperties": True,
        }
    return {"$ref": f"#/$defs/{cls.__name__}"}
