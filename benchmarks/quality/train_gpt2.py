"""Train the decoder of the quality tables: a GPT-2 of 11.8 M parameters on the standard library's source.

    python benchmarks/quality/train_gpt2.py --minutes 90

Stops after the given time of this and earlier runs together; the learning rate falls over the last part of it, so every
finished run is a whole one however fast the machine is. Killed and started again it goes on from its last checkpoint.
Weights land in corpus.cache_folder().
"""

from __future__ import annotations

import argparse
import json
import math
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from corpus import VOCABULARY, cache_folder, held_out_contexts, training_tokens
from torch import Tensor, nn
from transformers import GPT2Config, GPT2LMHeadModel
from transformers.utils import logging

logging.disable_progress_bar()
CONTEXT, WIDTH = 1024, 384
EMBEDDING, POSITION, QUERY, COPY = 0.1, 0.4, 2.0, 10.0  # sizes that the model begins with: see new_model
TARGETS = 32  # tokens at the end of a held-out context whose loss is printed for every length of what is before them
EARLY = 0.5  # of the time: contexts of half the length, half of them repetitions
LENGTHS = (32, 64, 128, 256, 512, CONTEXT - TARGETS)


@dataclass
class Settings:
    """What the training costs and how it moves; times in minutes."""

    minutes: float
    batch: int = 2
    muon_rate: float = 0.01
    adam_rate: float = 0.003
    warmup_steps: int = 20
    decay_share: float = 0.4  # of the time, at its end: the learning rate falls to zero
    checkpoint_every: float = 3.0
    bf16: bool = True


def new_model(seed: int = 0) -> GPT2LMHeadModel:
    """Return an untrained model: 6 layers of 6 heads of 64, context 1024, no dropout.

    A CPU has time for a few million tokens, with which a model hardly finds out by itself that text repeats. So three
    heads begin with a purpose, and training goes on from there: positions begin as sinusoids in 64 of the features, two
    heads of the first layer look one and two tokens back, and one of the second looks for the same token as now.
    """
    torch.manual_seed(seed)
    config = GPT2Config(
        vocab_size=VOCABULARY, n_positions=CONTEXT, n_embd=WIDTH, n_layer=6, n_head=6,
        resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, bos_token_id=0, eos_token_id=0,
    )  # fmt: skip
    model = GPT2LMHeadModel(config)
    rates = 2 * torch.exp(torch.arange(32) * (-math.log(10.0) / 32))
    angle = torch.arange(CONTEXT)[:, None] * rates
    first, second = model.transformer.h[0].attn, model.transformer.h[1].attn
    with torch.no_grad():
        model.transformer.wte.weight.mul_(EMBEDDING / 0.02)
        model.transformer.ln_f.weight.fill_(0.2)  # or the present token, whose embedding is still there, would be all
        model.transformer.wpe.weight.zero_()[:, :64] = POSITION * torch.cat([angle.sin(), angle.cos()], dim=1)
        for head in (0, 1):
            look_back(first.c_attn.weight, head, head + 1, rates)
        look_for_the_same(first, second)
    return model


def look_back(weight: Tensor, head: int, steps: int, rates: Tensor, gain: float = 2.0) -> None:
    """Let a head look `steps` tokens back: its keys are 32 sinusoids of the position, its queries the same, turned."""
    sine = torch.arange(32)
    cosine, query = sine + 32, head * 64 + sine
    key, turn = query + WIDTH, rates * steps
    weight[:, head * 64 : head * 64 + 64] = 0
    weight[:, WIDTH + head * 64 : WIDTH + head * 64 + 64] = 0
    weight[sine, key] = weight[cosine, key + 32] = gain
    weight[sine, query] = weight[cosine, query + 32] = gain * turn.cos()
    weight[cosine, query], weight[sine, query + 32] = -gain * turn.sin(), gain * turn.sin()


def look_for_the_same(first: nn.Module, second: nn.Module) -> None:
    """Let the first head of `second` look at what followed the present token before, and say it again.

    A code of 64 numbers stands for a token. The head that looks one token back writes the code of what it sees to
    features of its own; these are the keys, the code of the present token is the query, that of each token its value.
    """
    code = torch.zeros(WIDTH, 64)
    code[128:] = torch.linalg.qr(torch.randn(WIDTH - 128, 64)).Q
    head, key, value = slice(0, 64), slice(WIDTH, WIDTH + 64), slice(2 * WIDTH, 2 * WIDTH + 64)
    first.c_attn.weight[:, value] = code
    first.c_proj.weight[head] = 0
    first.c_proj.weight[head, 64:128] = 2 * EMBEDDING * torch.eye(64)
    second.c_attn.weight[:, head] = QUERY * code
    second.c_attn.weight[:, key] = 0
    second.c_attn.weight[64:128, key] = QUERY * torch.eye(64)
    second.c_attn.weight[:, value] = code
    second.c_proj.weight[head] = COPY * EMBEDDING * code.T


def optimisers(model: GPT2LMHeadModel, settings: Settings) -> list[torch.optim.Optimizer]:
    """Return AdamW for most, and Muon for the other matrices of each half of the layers.

    GPT-2 holds Q, K and V side by side in one matrix. Muon makes an update orthogonal as a whole, and V, whose gradient
    is by far the largest at first, would leave nothing to Q and K: attention would stay flat. So AdamW moves these.
    """
    named = dict(model.named_parameters())
    joint = [p for name, p in named.items() if name.endswith("c_attn.weight")]
    matrices = [p for name, p in named.items() if p.ndim == 2 and name.endswith(("c_proj.weight", "c_fc.weight"))]
    slow = [p for name, p in named.items() if p.ndim == 1 or "wpe" in name]
    tokens, rate, half = model.transformer.wte.weight, settings.adam_rate, len(matrices) // 2
    groups = [{"params": [tokens]}, {"params": joint, "lr": rate / 3}, {"params": slow, "lr": rate / 10}]
    return [
        torch.optim.AdamW(groups, lr=rate, betas=(0.9, 0.95), weight_decay=0.0),
        torch.optim.Muon(matrices[:half], lr=settings.muon_rate, weight_decay=0.1, momentum=0.95),
        torch.optim.Muon(matrices[half:], lr=settings.muon_rate, weight_decay=0.1, momentum=0.95),
    ]


def rate_factor(step: int, spent: float, settings: Settings) -> float:
    """Return the factor on the learning rates: warm-up by steps, then flat, then down to zero over the last time."""
    left = max(0.0, 1 - spent / settings.minutes) / settings.decay_share
    return min(1.0, (step + 1) / settings.warmup_steps, left)


def loss_of(model: GPT2LMHeadModel, ids: Tensor, bf16: bool) -> Tensor:
    """Return the loss of each predicted token, fp32 [B, L - 1], in nats."""
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
        logits = model(ids[:, :-1], use_cache=False).logits
    return nn.functional.cross_entropy(logits.float().flatten(0, 1), ids[:, 1:].flatten(), reduction="none").view_as(
        ids[:, 1:]
    )


def gradients(model: GPT2LMHeadModel, ids: Tensor, bf16: bool) -> tuple[float, tuple[Tensor, ...]]:
    """Return the mean loss and its gradients; nothing is written to the model, so several threads may do it at once."""
    loss = loss_of(model, ids, bf16).mean()
    return loss.item(), torch.autograd.grad(loss, list(model.parameters()))


@torch.no_grad()
def loss_by_context(model: GPT2LMHeadModel, contexts: Tensor, bf16: bool) -> dict[int, float]:
    """Return the mean loss of the last TARGETS tokens of `contexts` when the model sees so many tokens before them.

    The tokens are the same for every length, so that the difference is what the context is worth. In nats a token.
    """
    model.eval()
    found = {}
    for length in LENGTHS:
        losses = [loss_of(model, rows[:, -length - TARGETS :], bf16)[:, -TARGETS:] for rows in contexts.split(8)]
        found[length] = torch.cat(losses).mean().item()
    model.train()
    return found


def save(path: Path, **state: Any) -> None:
    """Write a checkpoint in one step: a run that is killed here leaves the one before."""
    part = path.with_suffix(".part")
    torch.save(state, part)
    part.replace(path)


def train(settings: Settings, folder: Path, threads: int) -> None:
    """Train to the end of the time, or go on with the checkpoint that lies in `folder`."""
    tokens = training_tokens(folder)
    contexts = held_out_contexts(folder, CONTEXT, 32)
    model = new_model().train()
    steppers = optimisers(model, settings)
    rates = [group["lr"] for stepper in steppers for group in stepper.param_groups]
    step, spent, running, path = 0, 0.0, math.nan, folder / "checkpoint.pt"
    if path.exists():
        state = torch.load(path, weights_only=True)
        step, spent = state["step"], state["spent"]
        model.load_state_dict(state["model"])
        for stepper, held in zip(steppers, state["steppers"], strict=True):
            stepper.load_state_dict(held)
    size = sum(p.numel() for p in model.parameters())
    print(f"{size / 1e6:.1f} M parameters, {len(tokens) / 1e6:.1f} M tokens", flush=True)
    begun, since = time.monotonic() - 60 * spent, spent
    # Each thread takes whole contexts: on a shared machine threads that wait for each other in every layer mostly wait.
    with ThreadPoolExecutor(threads, initializer=partial(torch.set_num_threads, 1)) as pool:
        while spent < settings.minutes:
            groups = [group for stepper in steppers for group in stepper.param_groups]
            for group, rate in zip(groups, rates, strict=True):
                group["lr"] = rate * rate_factor(step, spent, settings)
            early = spent < settings.minutes * EARLY
            loss = one_step(model, steppers, batch_of(tokens, step, settings.batch, early), pool, settings.bf16)
            step, spent = step + 1, (time.monotonic() - begun) / 60
            running = loss if math.isnan(running) else 0.95 * running + 0.05 * loss
            if step % 20 == 0:
                print(f"step {step}, {spent:.1f} min, loss {running:.3f}", flush=True)
            if spent - since >= settings.checkpoint_every or spent >= settings.minutes:
                since = spent
                save(
                    path, step=step, spent=spent, model=model.state_dict(), steppers=[s.state_dict() for s in steppers]
                )
                facts = {"steps": step, "batch": settings.batch, "minutes": spent}
                publish(model, folder, facts | {"loss": loss_by_context(model, contexts, settings.bf16)})


def batch_of(tokens: Tensor, step: int, batch: int, early: bool) -> Tensor:
    """Return the contexts of a step, int64 [batch, L + 1]: consecutive source from random places; L is CONTEXT.

    Early L is half of that, and the first context says its beginning over and over, so that copying pays at once.
    """
    length = CONTEXT // 2 if early else CONTEXT
    draw = torch.Generator().manual_seed(step)
    starts = torch.randint(len(tokens) - CONTEXT - 1, (batch,), generator=draw).tolist()
    period = int(torch.randint(32, CONTEXT // 4, (1,), generator=draw))
    ids = torch.stack([tokens[start : start + length + 1] for start in starts])
    if early:
        ids[0] = ids[0, torch.arange(length + 1) % period]
    return ids


def one_step(
    model: GPT2LMHeadModel, steppers: list[torch.optim.Optimizer], ids: Tensor, pool: ThreadPoolExecutor, bf16: bool
) -> float:
    """Take one step on a batch and return its loss."""
    found = list(pool.map(lambda rows: gradients(model, rows, bf16), ids.split(1)))
    for parameter, *parts in zip(model.parameters(), *(part for _, part in found), strict=True):
        parameter.grad = torch.stack(parts).mean(0)
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    list(pool.map(lambda stepper: stepper.step(), steppers))
    return sum(loss for loss, _ in found) / len(found)


def publish(model: GPT2LMHeadModel, folder: Path, facts: dict[str, Any]) -> None:
    """Write the model as a Hugging Face folder, with what it reached beside it."""
    model.save_pretrained(folder / "gpt2")
    (folder / "gpt2" / "training.json").write_text(json.dumps(facts, indent=1))
    print("held-out loss by context: " + ", ".join(f"{k} {v:.3f}" for k, v in facts["loss"].items()), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=90.0)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--fp32", action="store_true", help="no bf16 arithmetic")
    given = parser.parse_args()
    torch.set_num_threads(1)
    settings = Settings(minutes=given.minutes, bf16=not given.fp32)
    folder = cache_folder()
    folder.mkdir(parents=True, exist_ok=True)
    print(json.dumps(asdict(settings)), folder, flush=True)
    train(settings, folder, given.threads)


if __name__ == "__main__":
    main()
