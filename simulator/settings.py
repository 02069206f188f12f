"""What the settings files of designs, memories and constants tables share: strict models, merging, `--set`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict

from simulator.config import Document
from simulator.errors import ConfigError

__all__ = ["Settings", "changed", "merged", "with_exponent"]

_EXPONENT = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+")  # YAML 1.1 takes 1e-1 for text


class Settings(BaseModel):
    """Base of every settings model: unknown keys are errors, values are not converted, nothing changes later."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


def with_exponent(value: Any) -> Any:
    """Return the number that a text such as "1e-1" is meant to be; anything else as it is."""
    return float(value) if isinstance(value, str) and _EXPONENT.fullmatch(value) else value


def merged(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return `base` with `changes` put over it, mapping by mapping."""
    result = dict(base)
    for key, value in changes.items():
        old = result.get(key)
        result[key] = merged(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
    return result


def changed(document: Document, changes: Mapping[str, Any]) -> Document:
    """Return `document` with dotted keys changed; a text value is read as YAML, so that "8" is a number.

    Whether the keys exist and the types are right is checked by `simulator.config.validate`, against the model.

    Raises
    ------
    ConfigError: an empty key or a value that is not YAML.
    """
    data, origins = dict(document.data), dict(document.origins)
    for key, value in changes.items():
        parts = key.split(".")
        if not all(parts):
            raise ConfigError(f"the key {key!r} is not a dotted name", where="--set", expected="as dram.channels=8")
        new = [tuple(parts[:end]) for end in range(1, len(parts)) if tuple(parts[:end]) not in document.lines]
        origins.update(dict.fromkeys([*new, tuple(parts)], f"--set {key}={value}"))
        if isinstance(value, str):
            try:
                value = yaml.safe_load(value)
            except yaml.YAMLError as error:
                raise ConfigError(f"the value of {key} is not readable: {value!r}", where="--set") from error
            value = with_exponent(value)
        for part in reversed(parts):
            value = {part: value}
        data = merged(data, value)
    where = f"{document.where} with --set {', '.join(changes)}" if changes else document.where
    return Document(data, where, document.lines, origins)
