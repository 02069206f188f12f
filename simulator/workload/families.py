"""Families of transformers as data: the ops of a layer, and the names that weights and sizes have."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from simulator.errors import UnsupportedError
from simulator.workload.ir import ModelInfo

__all__ = ["FAMILIES", "Family", "Linear", "Other", "family_named", "sizes"]


@dataclass(frozen=True, slots=True)
class Linear:
    """A linear layer by its name within the transformer layer and the names of its sizes (see `sizes`)."""

    name: str
    reads: str
    makes: str


@dataclass(frozen=True, slots=True)
class Other:
    """An op that is no matrix product: what it is (simulator.workload.build counts it) and the size it runs over."""

    name: str
    rule: str
    size: str = "hidden"


@dataclass(frozen=True, slots=True)
class Family:
    """What the models of a family compute, as data.

    Parameters
    ----------
    types: `model_type` values of Hugging Face configs. encoder: every token sees every other one, nothing is generated.
    path: regular expression of a layer's name prefix, its number in group 1. query, key, up: the names whose shapes
    give the sizes. linears, others: of one layer, in order. tables: embedding tables summed per token (the first is the
    vocabulary). after: on all tokens behind the last layer. last: linear layers on one token per sequence, (name, out).
    patches: the linear layer that makes all tokens but the first, for images. embedded: on all tokens before the first
    layer. finish: on one token per sequence behind `last`. length: tokens by default, None: those of the kind.
    transposed: weights are stored [in, out].
    config: the config's key for each size.
    """

    name: str
    types: tuple[str, ...]
    encoder: bool
    path: str
    query: str
    key: str
    up: str
    vocabulary: str
    linears: tuple[Linear, ...]
    others: tuple[Other, ...]
    tables: int
    after: tuple[Other, ...]
    last: tuple[Linear, ...]
    config: Mapping[str, str]
    transposed: bool = False
    patches: Linear | None = None
    embedded: tuple[Other, ...] = ()
    finish: tuple[Other, ...] = ()
    length: int | None = None

    def prefix(self, layer: int) -> str:
        """Return the name prefix of a layer."""
        return self.path.replace(r"(\d+)", str(layer)).replace("\\", "")


def sizes(model: ModelInfo) -> dict[str, int]:
    """Return the sizes that `Linear` and `Other` refer to."""
    query, key = model.heads * model.head_dim, model.kv_heads * model.head_dim
    return {
        "hidden": model.hidden,
        "query": query,
        "kv": key,
        "fused_qkv": query + 2 * key,
        "query_and_key": query + key,
        "mlp": model.intermediate,
        "vocab": max(model.vocab, 1),
        "patch": 16 * 16 * 3,  # pixels of an image's patch, in three colours (ViT-B/16, ViT-L/16)
    }


_HF = {
    "layers": "num_hidden_layers",
    "heads": "num_attention_heads",
    "hidden": "hidden_size",
    "intermediate": "intermediate_size",
    "vocab": "vocab_size",
}
_EMBEDDED = (Other("embeddings.layer_norm", "layer_norm"),)
_POST_NORM = (
    Other("attention.residual", "residual"),
    Other("attention.layer_norm", "layer_norm"),
    Other("activation", "gelu", "mlp"),
    Other("residual", "residual"),
    Other("layer_norm", "layer_norm"),
)


def _bert(name: str, types: tuple[str, ...], tables: int) -> Family:
    return Family(
        name=name,
        types=types,
        encoder=True,
        path=r"encoder\.layer\.(\d+)\.",
        query="attention.self.query",
        key="attention.self.key",
        up="intermediate.dense",
        vocabulary="embeddings.word_embeddings",
        linears=(
            Linear("attention.self.query", "hidden", "query"),
            Linear("attention.self.key", "hidden", "kv"),
            Linear("attention.self.value", "hidden", "kv"),
            Linear("attention.output.dense", "query", "hidden"),
            Linear("intermediate.dense", "hidden", "mlp"),
            Linear("output.dense", "mlp", "hidden"),
        ),
        others=_POST_NORM,
        tables=tables,
        after=(),
        last=(Linear("pooler.dense", "hidden", "hidden"),),
        config=_HF,
        embedded=_EMBEDDED,
        finish=(Other("pooler.activation", "tanh"),),
    )


_DISTILBERT = Family(
    name="distilbert",
    types=("distilbert",),
    encoder=True,
    path=r"transformer\.layer\.(\d+)\.",
    query="attention.q_lin",
    key="attention.k_lin",
    up="ffn.lin1",
    vocabulary="embeddings.word_embeddings",
    linears=(
        Linear("attention.q_lin", "hidden", "query"),
        Linear("attention.k_lin", "hidden", "kv"),
        Linear("attention.v_lin", "hidden", "kv"),
        Linear("attention.out_lin", "query", "hidden"),
        Linear("ffn.lin1", "hidden", "mlp"),
        Linear("ffn.lin2", "mlp", "hidden"),
    ),
    others=_POST_NORM,
    tables=2,
    after=(),
    last=(),
    config={
        "layers": "n_layers",
        "heads": "n_heads",
        "hidden": "dim",
        "intermediate": "hidden_dim",
        "vocab": "vocab_size",
    },
    embedded=_EMBEDDED,
)

_GPT2 = Family(
    name="gpt2",
    types=("gpt2",),
    encoder=False,
    path=r"h\.(\d+)\.",
    query="attn.c_attn",
    key="attn.c_attn",
    up="mlp.c_fc",
    vocabulary="wte",
    linears=(
        Linear("attn.c_attn", "hidden", "fused_qkv"),
        Linear("attn.c_proj", "query", "hidden"),
        Linear("mlp.c_fc", "hidden", "mlp"),
        Linear("mlp.c_proj", "mlp", "hidden"),
    ),
    others=(
        Other("ln_1", "layer_norm"),
        Other("attention.residual", "residual"),
        Other("ln_2", "layer_norm"),
        Other("activation", "gelu", "mlp"),
        Other("residual", "residual"),
    ),
    tables=2,
    after=(Other("ln_f", "layer_norm"),),
    last=(Linear("lm_head", "hidden", "vocab"),),
    config={
        "layers": "n_layer",
        "heads": "n_head",
        "hidden": "n_embd",
        "intermediate": "n_inner",
        "vocab": "vocab_size",
    },
    transposed=True,
)

_LLAMA = Family(
    name="llama",
    types=("llama", "mistral", "qwen2", "qwen3"),
    encoder=False,
    path=r"layers\.(\d+)\.",
    query="self_attn.q_proj",
    key="self_attn.k_proj",
    up="mlp.up_proj",
    vocabulary="embed_tokens",
    linears=(
        Linear("self_attn.q_proj", "hidden", "query"),
        Linear("self_attn.k_proj", "hidden", "kv"),
        Linear("self_attn.v_proj", "hidden", "kv"),
        Linear("self_attn.o_proj", "query", "hidden"),
        Linear("mlp.gate_proj", "hidden", "mlp"),
        Linear("mlp.up_proj", "hidden", "mlp"),
        Linear("mlp.down_proj", "mlp", "hidden"),
    ),
    others=(
        Other("input_layernorm", "rms_norm"),
        Other("rotary_embedding", "rotary", "query_and_key"),
        Other("attention.residual", "residual"),
        Other("post_attention_layernorm", "rms_norm"),
        Other("activation", "gated_silu", "mlp"),
        Other("residual", "residual"),
    ),
    tables=1,
    after=(Other("norm", "rms_norm"),),
    last=(Linear("lm_head", "hidden", "vocab"),),
    config={**_HF, "kv_heads": "num_key_value_heads", "head_dim": "head_dim"},
)

_VIT = Family(
    name="vit",
    types=("vit",),
    encoder=True,
    path=r"encoder\.layer\.(\d+)\.",
    query="attention.attention.query",
    key="attention.attention.key",
    up="intermediate.dense",
    vocabulary="classifier",
    linears=(
        Linear("attention.attention.query", "hidden", "query"),
        Linear("attention.attention.key", "hidden", "kv"),
        Linear("attention.attention.value", "hidden", "kv"),
        Linear("attention.output.dense", "query", "hidden"),
        Linear("intermediate.dense", "hidden", "mlp"),
        Linear("output.dense", "mlp", "hidden"),
    ),
    others=(
        Other("layernorm_before", "layer_norm"),
        Other("attention.residual", "residual"),
        Other("layernorm_after", "layer_norm"),
        Other("activation", "gelu", "mlp"),
        Other("residual", "residual"),
    ),
    tables=2,
    after=(Other("layernorm", "layer_norm"),),
    last=(Linear("classifier", "hidden", "vocab"),),
    config={name: key for name, key in _HF.items() if name != "vocab"},
    patches=Linear("embeddings.patch_embeddings.projection", "patch", "hidden"),
    length=197,  # 14 x 14 patches and the class token
)

FAMILIES = {
    family.name: family
    for family in (
        _bert("bert", ("bert",), tables=3),
        _bert("roberta", ("roberta", "xlm-roberta", "camembert"), tables=3),
        _DISTILBERT,
        _GPT2,
        _LLAMA,
        _VIT,
    )
}


def family_named(name: str) -> Family:
    """Return a family; raises UnsupportedError, with the known names, for another one."""
    if name not in FAMILIES:
        raise UnsupportedError(f"unknown model family {name!r}", expected="one of " + ", ".join(FAMILIES))
    return FAMILIES[name]
