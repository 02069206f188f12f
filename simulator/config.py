"""YAML and JSON configuration files, checked by pydantic, with errors that name the line and the nearest key."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from simulator.errors import ConfigError, nearest
from simulator.files import read_bytes

__all__ = ["Document", "load_yaml", "parse_yaml", "validate"]

Key = str | int
M = TypeVar("M", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Document:
    """The content of a configuration file, and the line on which each key stands.

    Parameters
    ----------
    data: mappings, lists and scalars. where: the file's name. lines: 1-based line by path of keys.
    origins: where a key comes from that is not of this file, by its path.
    """

    data: Any
    where: str
    lines: dict[tuple[Key, ...], int] = field(default_factory=dict)
    origins: dict[tuple[Key, ...], str] = field(default_factory=dict)

    def place(self, path: Sequence[Key]) -> str:
        """Return "file, line 7, key dram.channels" for the longest part of `path` that is in the file."""
        shown = ".".join(map(str, path))
        for length in range(len(path), -1, -1):
            if origin := self.origins.get(tuple(path[:length])):
                return origin
            line = self.lines.get(tuple(path[:length]))
            if line is not None:
                return f"{self.where}, line {line}" + (f", key {shown}" if shown else "")
        return f"{self.where}" + (f", key {shown}" if shown else "")


def load_yaml(path: str | os.PathLike[str]) -> Document:
    """Read a YAML or JSON file.

    Raises
    ------
    FileMissingError: no such file.
    ConfigError: not UTF-8, not YAML, a key given twice, or not a mapping at the top level.
    """
    try:
        text = read_bytes(path).decode("utf-8")
    except UnicodeDecodeError as error:
        raise ConfigError("the file is not text", where=str(path), expected="YAML or JSON in UTF-8") from error
    return parse_yaml(text, str(path))


@lru_cache(maxsize=64)
def parse_yaml(text: str, where: str) -> Document:
    """Return the document in `text`, which nobody may change: who asks again gets the same; raises as `load_yaml`.

    Reading YAML takes longer than many a simulation that it is for.
    """
    try:
        loader = yaml.SafeLoader(text)
        node = loader.get_single_node()
        lines: dict[tuple[Key, ...], int] = {}
        if node is not None:
            _collect_lines(node, (), lines, where)
        data = loader.construct_document(node) if node is not None else None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark is not None else ""
        problem = getattr(error, "problem", None) or str(error)
        raise ConfigError(f"not valid YAML: {problem}", where=where + line) from error
    except RecursionError as error:
        raise ConfigError("the file is nested too deeply", where=where) from error
    except ConfigError:
        raise
    except ValueError as error:  # such as the date 2001-99-01, which YAML reads as a date
        raise ConfigError(f"a value is not readable: {error}", where=where) from error
    if not isinstance(data, dict):
        raise ConfigError("the file has no keys at the top level", where=where, expected="key: value")
    return Document(data, where, lines)


def _collect_lines(node: yaml.Node, path: tuple[Key, ...], lines: dict[tuple[Key, ...], int], where: str) -> None:
    lines.setdefault(path, node.start_mark.line + 1)
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            name = str(key.value)
            line = key.start_mark.line + 1
            if name in seen:
                raise ConfigError(f"the key {name!r} is given twice", where=f"{where}, line {line}")
            seen.add(name)
            here = (*path, name)
            lines[here] = line
            _collect_lines(value, here, lines, where)
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            _collect_lines(value, (*path, index), lines, where)


def validate(model: type[M], document: Document) -> M:
    """Return `document` as an instance of the pydantic `model`.

    Raises
    ------
    ConfigError: with every problem found, each with its line; for an unknown key the nearest known names.
    """
    try:
        return model.model_validate(document.data)
    except ValidationError as error:
        explained = (_explain(model, document, dict(item)) for item in error.errors(include_url=False))
        problems = list(dict.fromkeys(explained))  # one value may stand for two keys
    if len(problems) == 1:
        raise ConfigError(problems[0][0], where=problems[0][1])
    listed = "".join(f"\n  {where}: {what}" for what, where in problems)
    raise ConfigError(f"{len(problems)} problems:{listed}", where=document.where)


def _explain(model: type[BaseModel], document: Document, item: dict[str, Any]) -> tuple[str, str]:
    """Return what is wrong and where, for one error of pydantic."""
    path = tuple(item["loc"])
    where = document.place(path)
    if item["type"] == "extra_forbidden":
        hint = nearest(str(path[-1]), _known_keys(model, path[:-1]))
        return f"unknown key {str(path[-1])!r}" + (f": {hint}" if hint else ""), where
    if item["type"] == "missing":
        return f"the key {str(path[-1])!r} is missing", document.place(path[:-1])
    message = str(item["msg"]).removeprefix("Value error, ").replace("Input should be", "the value should be")
    if item["type"] in ("model_type", "dict_type"):
        message = "the value should be a mapping of keys"
    shown = item.get("input")
    scalar = isinstance(shown, (str, int, float, bool)) and not message.startswith(repr(shown))
    return message + (f", not {shown!r}" if scalar else ""), where


def _known_keys(model: type[BaseModel], path: Sequence[Key]) -> list[str]:
    """Return the keys that the part of `model` at `path` accepts."""
    current: Any = model
    for key in path:
        found = current.model_fields.get(str(key)) if _is_model(current) else None
        annotation = found.annotation if found is not None else None
        candidates = (annotation, *getattr(annotation, "__args__", ()))
        current = next((candidate for candidate in candidates if _is_model(candidate)), None)
    return [info.alias or name for name, info in current.model_fields.items()] if _is_model(current) else []


def _is_model(value: object) -> bool:
    return isinstance(value, type) and issubclass(value, BaseModel)
