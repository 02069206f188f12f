"""Which weights of a Hugging Face folder belong to linear layers, told by the model's own code on the meta device."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from sparsecore.errors import MissingDependencyError, UnsupportedError
from sparsecore.survey import ON_META, survey

__all__ = ["linear_layers"]


def linear_layers(folder: Path, names: Collection[str]) -> Mapping[str, bool]:
    """Return those of `names` that are linear layers which may be packed, and for each whether it is a Conv1D.

    names: of modules, as the files have them, with or without the prefix that a model with a head puts before its body.

    Built on the meta device from config.json: no weight is read, no code of the folder is run, no network is used.
    Layers that share their weight with an embedding are left out.

    Raises MissingDependencyError without transformers, UnsupportedError for a model that it does not know.
    """
    try:
        from transformers import AutoConfig, AutoModel
        from transformers.models.auto import modeling_auto
    except ImportError as error:
        raise MissingDependencyError(
            "transformers is not installed",
            where=str(folder),
            expected="transformers, to know the layers of a Hugging Face folder",
            hint='pip install "sparsecore-kernels[hf]", or convert the weights file itself',
        ) from error
    try:
        config: Any = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        if hasattr(config, "quantization_config"):
            del config.quantization_config
        classes = getattr(config, "architectures", None) or []
        kind = next((found for name in classes if (found := _class(name)) is not None), None)
        with torch.device("meta"):
            model = kind._from_config(config) if kind is not None else AutoModel.from_config(config)  # type: ignore[no-untyped-call]
    except Exception as error:  # the code of some model, on a config.json that may hold anything
        known = len(modeling_auto.MODEL_MAPPING_NAMES)
        raise UnsupportedError(
            f"transformers cannot build the model: {error}",
            where=str(folder / "config.json"),
            expected=f"one of the {known} kinds of model that it knows",
            hint="convert the weights file itself",
        ) from error
    prefix = f"{model.base_model_prefix}."
    shared = _shared(model)
    layers = {}
    for found in survey(model):
        if found.kind in ("Linear", "Conv1D") and found.reason in ("", ON_META) and found.weight not in shared:
            spelled = (found.name, found.name.removeprefix(prefix), prefix + found.name)
            name = next((name for name in spelled if name in names), None)
            if name is not None:
                layers[name] = found.kind == "Conv1D"
    return layers


def _shared(model: nn.Module) -> set[torch.Tensor]:
    """Parameters that the model holds under two names: on the meta device memory does not tell."""
    parameters = [parameter for _, parameter in model.named_parameters(remove_duplicate=False)]
    return {parameter for parameter, count in Counter(parameters).items() if count > 1}


def _class(name: str) -> Any:
    import transformers

    found = getattr(transformers, name, None)
    return found if isinstance(found, type) and hasattr(found, "_from_config") else None
