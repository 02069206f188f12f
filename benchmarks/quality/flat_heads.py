"""Which heads local value pruning hurts: output error over how much probability the largest values hold.

    python benchmarks/quality/flat_heads.py              # a table; into benchmarks/results/quality-heads.json

Computed from the definition, head by head, on the attention of both models of the quality tables: every query
multiplies the top share of its values, not renormalised; with the guard it multiplies all of them where the chosen ones
hold less than that much probability.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch
from corpus import cache_folder, held_out_contexts
from results import RESULTS, add
from torch import Tensor, nn
from transformers import GPT2LMHeadModel

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "examples" / "demo"))
from texts import Corpus, load_dense

KEEP, GUARD = 0.3, 0.9
FILE = RESULTS / "quality-heads.json"


def attention_of(
    model: nn.Module, inputs: dict[str, Tensor], fused: str | None, value: str
) -> list[tuple[Tensor, Tensor]]:
    """Return (probabilities [H, n, n], values [H, n, D]) of every layer for one sequence.

    Parameters
    ----------
    value: suffix of the name of the module whose output holds V. fused: set if it holds Q, K and V side by side.
    """
    heads: int = model.config.num_attention_heads  # type: ignore[assignment,union-attr]
    seen: list[Tensor] = []
    modules = [module for name, module in model.named_modules() if name.endswith(value)]
    hooks = [module.register_forward_hook(lambda _m, _i, out: seen.append(out[0])) for module in modules]
    model.set_attn_implementation("eager")  # type: ignore[operator]
    with torch.inference_mode():
        probabilities = model(**inputs, output_attentions=True).attentions
    for hook in hooks:
        hook.remove()
    values = [out.chunk(3, dim=-1)[2] if fused else out for out in seen]
    return [
        (p[0].float(), v.unflatten(-1, (heads, -1)).transpose(0, 1)) for p, v in zip(probabilities, values, strict=True)
    ]


def pruned(p: Tensor, keep: float, guard: float) -> tuple[Tensor, Tensor]:
    """Return (probabilities [H, n, n] of the chosen values, their number [H, n]), chosen among the visible keys."""
    visible = (p > 0).sum(-1)
    number = (visible * keep).floor().clamp_min(1).long()
    place = p.argsort(dim=-1, descending=True, stable=True).argsort(dim=-1)
    chosen = place < number[..., None]
    held = (p * chosen).sum(-1)
    chosen = chosen | (held < guard)[..., None]
    return p * chosen, torch.where(held < guard, visible, number)


def heads_of(layers: list[tuple[Tensor, Tensor]], skip: int) -> list[dict[str, Any]]:
    """Return for each head: probability in its top values, output error without and with the guard, and its price."""
    found = []
    for layer, (p, v) in enumerate(layers):
        p = p[:, skip:]
        whole, visible = p @ v, (p > 0).sum(-1).double()
        plain, _ = pruned(p, KEEP, 0.0)
        guarded, rows = pruned(p, KEEP, GUARD)
        for head in range(len(p)):
            size = whole[head].norm()
            found.append(
                {
                    "layer": layer,
                    "head": head,
                    "mass": float(plain[head].sum(-1).mean()),
                    "error": float(((plain[head] @ v[head]) - whole[head]).norm() / size),
                    "guarded": float(((guarded[head] @ v[head]) - whole[head]).norm() / size),
                    "read": float((rows[head] / visible[head]).mean()),
                }
            )
    return found


def main() -> None:
    folder, corpus = cache_folder(), Corpus.load()
    text = corpus.encode((corpus.passages[0],))
    decoder = GPT2LMHeadModel.from_pretrained(folder / "gpt2").eval()
    context = {"input_ids": held_out_contexts(folder, 1024, 1)}
    every = {
        "all-MiniLM-L6-v2": heads_of(attention_of(load_dense(), text, None, "attention.self.value"), 0),
        "GPT-2, trained here": heads_of(attention_of(decoder, context, "c_attn", "attn.c_attn"), 512),
    }
    for model, heads in every.items():
        heads.sort(key=lambda head: head["mass"])
        quarter = len(heads) // 4
        groups = {
            "flattest quarter": heads[:quarter],
            "others": heads[quarter:-quarter],
            "most peaked": heads[-quarter:],
        }
        print(f"{model}: top {KEEP:.0%} of the values, guard at {GUARD:.0%} of the probability")
        for name, group in groups.items():
            mean = {key: sum(head[key] for head in group) / len(group) for key in ("mass", "error", "guarded", "read")}
            print(f"  {name:17}" + "".join(f"  {key} {value:.3f}" for key, value in mean.items()))
        add(FILE, {"keep": KEEP, "guard": GUARD}, model, heads)


if __name__ == "__main__":
    main()
