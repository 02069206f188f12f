"""The JSON string in the header of our files: what the tensors of the file mean.

{"version": "1.2",
 "modules": {"encoder.0.fc": {"pattern": "2:4", "shape": [384, 1536], "dtype": "float32", "transposed": false}},
 "aliases": {"lm_head.weight": "embed.weight"}}
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from simulator.files import check_version
from sparsecore.errors import CorruptFileError, NamedError
from sparsecore.patterns import Pattern, parse

__all__ = ["FORMAT_VERSION", "Header", "METADATA_KEY", "ModuleEntry"]

FORMAT_VERSION = "1.2"
METADATA_KEY = "sparsecore"
_DTYPES = ("float32", "float16", "bfloat16", "int8", "float8_e4m3fn")
_LONGEST_VERSION = 16
_UNUSABLE = f'the metadata entry "{METADATA_KEY}" is unusable'
_HINT = "the file was damaged or written by something else; write it again with sparsecore.save"


@dataclass(frozen=True, slots=True)
class ModuleEntry:
    """One packed module.

    pattern: name of its sparsity pattern. shape: (out_features, in_features). dtype: torch's name of the element type.
    transposed: the dense weight of the module is [in_features, out_features], as in transformers' Conv1D.
    """

    pattern: str
    shape: tuple[int, int]
    dtype: str
    transposed: bool = False

    def parsed(self) -> Pattern:
        """The pattern as a value."""
        return parse(self.pattern)

    @classmethod
    def from_json(cls, data: Any, problem: str, where: str) -> ModuleEntry:
        """Read one entry, found in the file `where`; `problem` begins the message of the CorruptFileError."""
        if not isinstance(data, dict):
            raise CorruptFileError(problem, where=where, hint=_HINT)
        shape, dtype, transposed = data.get("shape"), data.get("dtype"), data.get("transposed", False)
        if not (isinstance(shape, list) and len(shape) == 2 and all(type(size) is int and size >= 0 for size in shape)):
            raise CorruptFileError(f"{problem}: its shape is {shape!r}", where=where, hint=_HINT)
        if dtype not in _DTYPES or not isinstance(transposed, bool):
            raise CorruptFileError(
                f"{problem}: its dtype is {dtype!r}, transposed {transposed!r}", where=where, hint=_HINT
            )
        try:
            pattern = parse(data["pattern"]).name if isinstance(data.get("pattern"), str) else None
        except NamedError as error:
            raise CorruptFileError(f"{problem}: {error.what}", where=where, hint=_HINT) from error
        if pattern is None:
            raise CorruptFileError(f"{problem}: it names no pattern", where=where, hint=_HINT)
        return cls(pattern, (shape[0], shape[1]), dtype, transposed)


@dataclass(frozen=True, slots=True)
class Header:
    """Contents of the metadata entry "sparsecore". `aliases` maps names that are not in the file to names that are."""

    modules: Mapping[str, ModuleEntry] = field(default_factory=dict)
    aliases: Mapping[str, str] = field(default_factory=dict)
    version: str = FORMAT_VERSION

    def to_json(self) -> str:
        """One line of JSON with sorted keys."""
        modules = {name: asdict(entry) for name, entry in self.modules.items()}
        return json.dumps({"version": self.version, "modules": modules, "aliases": dict(self.aliases)}, sort_keys=True)

    @classmethod
    def from_json(cls, text: str, where: str) -> Header:
        """Read `text`, found in the file `where`. Unknown keys are ignored: newer minor versions only add some.

        Raises FormatVersionError for another major version and CorruptFileError for anything else that is not such a
        header.
        """
        try:
            data = json.loads(text)
        except (json.JSONDecodeError, RecursionError) as error:
            raise _corrupt(f"it is not JSON: {error}", where) from error
        if not isinstance(data, dict):
            raise _corrupt("it is not an object", where)
        version = data.get("version")
        if not isinstance(version, str) or len(version) > _LONGEST_VERSION:
            raise _corrupt("it has no format version", where)
        check_version(version, FORMAT_VERSION, where)
        modules, aliases = data.get("modules", {}), data.get("aliases", {})
        if not isinstance(modules, dict) or not isinstance(aliases, dict):
            raise _corrupt("modules and aliases are not objects", where)
        entries = {
            name: ModuleEntry.from_json(entry, f"{_UNUSABLE}: the entry of module {name!r} is malformed", where)
            for name, entry in modules.items()
        }
        for alias, name in aliases.items():
            if not isinstance(name, str) or name in aliases:
                raise _corrupt(f"the alias {alias!r} does not lead to a stored tensor", where)
        return cls(entries, aliases, version)


def _corrupt(problem: str, where: str) -> CorruptFileError:
    return CorruptFileError(f"{_UNUSABLE}: {problem}", where=where, hint=_HINT)
