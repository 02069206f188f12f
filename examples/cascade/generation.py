"""A decoder that continues the same prompt dense and with cascade: time, tokens, and the cache rows that it reads."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from picture import passage_svg, reading_svg
from rich.console import Console
from torch import Tensor
from transformers import GPT2Config, GPT2LMHeadModel

import sparsecore as sc
from simulator.report import DataTable, Section
from simulator.report.terminal import print_table
from sparsecore.timing import interleaved, median_ratio

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks" / "quality"))

from corpus import cache_folder, tokenizer

SHARES = (0.8, 0.5)  # of the tokens, as a mean over layers; the pictures show the last
NEW_TOKENS = 32
PROMPT = '''class Account:
    """Money of one owner, in cents."""

    def __init__(self, owner, balance=0):
        self.owner = owner
        self.balance = balance

    def deposit(self, amount):
        if amount <= 0:
            raise ValueError("amount must be positive")
        self.balance = self.balance + amount

    def withdraw(self, amount):
        if amount <= 0:
            raise ValueError("amount must be positive")
        self.balance = self.balance'''


@dataclass(frozen=True)
class Decoder:
    """A model with the ways from text to tokens and back; `about` says which one it is."""

    model: Any
    about: str
    encode: Callable[[str], list[int]]
    decode: Callable[[list[int]], str]


def load_decoder() -> Decoder:
    """Return the GPT-2 that benchmarks/quality/train_gpt2.py left in its cache, or else one of random weights."""
    folder = cache_folder()
    if (folder / "gpt2" / "model.safetensors").exists():
        model = GPT2LMHeadModel.from_pretrained(folder / "gpt2").eval()
        coder = tokenizer(folder)
        about = "A GPT-2 of 11.8 M parameters, trained by benchmarks/quality/train_gpt2.py on Python source; fp32."
        return Decoder(model, about, lambda text: coder.encode(text).ids, coder.decode)
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=256, n_positions=1024, n_embd=384, n_layer=6, n_head=6, bos_token_id=None, eos_token_id=None,
        initializer_range=0.1,
    )  # fmt: skip
    about = (
        "A small GPT-2 of RANDOM weights that reads and writes bytes; fp32. Its text means nothing, and which rows it "
        "reads shows how the cascade works, not what matters in a text. benchmarks/quality/train_gpt2.py trains "
        "the model that this example takes when it is there."
    )
    return Decoder(GPT2LMHeadModel(config).eval(), about, lambda text: list(text.encode()), _of_bytes)


def compare_generation(console: Console) -> Section:
    """Print what both ways write and how fast; return it with the picture of the rows that each step and layer read."""
    decoder = load_decoder()
    console.print(decoder.about, highlight=False)
    ids = torch.tensor([decoder.encode(PROMPT)])
    dense = partial(_generate, decoder.model, ids)
    answer = dense()[0].tolist()
    rows = [("dense", "100%", "", "", _text(decoder, answer, ids))]
    for share in SHARES:
        pruned = partial(_generate_pruned, decoder.model, ids, share)
        tokens, run = pruned()
        written = tokens[0].tolist()
        times = interleaved({"dense": dense, "cascade": pruned}, rounds=5)
        same = sum(a == b for a, b in zip(answer, written, strict=True)) - ids.shape[1]
        speed = median_ratio(times["dense"], times["cascade"])
        text = _text(decoder, written, ids)
        rows.append(("cascade", f"{run.token_keep:.0%}", f"{same} of {NEW_TOKENS}", f"{speed:.2f}x", text))
    columns = ("", "rows read", "same tokens", "speed", "text")
    note = "Speed is of the whole generation; a cache as short as this takes no time to read, so it cannot pay here."
    table = DataTable("The same prompt, continued", columns, tuple(rows), note, align="lrrrl")
    print_table(table, console)
    asked = (
        f"{decoder.about} {ids.shape[1]} tokens of prompt, {NEW_TOKENS} more, each the likeliest; a step reads the "
        'newest token and says the next. Rows of the cache are chosen by the selector "heavy", the default: the first '
        "tokens, the newest, and those that attention looked at most."
    )
    reading = (
        f"First picture, {SHARES[-1]:.0%} of the tokens asked for as a mean over layers: for each layer, a line a step "
        "from top to bottom, a column a token from left to right; filled where the step read that row of the cache. "
        "Second picture: the prompt and the answer; the stronger the background, the more of the steps that could see "
        "a token read it in the last layer."
    )
    pictures = (reading_svg(_reads(run), run.seen[:, 0].tolist(), run.prompts[0]), _passage(decoder, written, run))
    return Section("A generation from the same prompt, dense and with cascade", (asked, reading), (table,), pictures)


@torch.inference_mode()
def _generate(model: Any, ids: Tensor) -> Tensor:
    """Return the prompt and NEW_TOKENS likeliest tokens, [1, L]."""
    options = {"max_new_tokens": NEW_TOKENS, "min_new_tokens": NEW_TOKENS, "do_sample": False, "pad_token_id": 0}
    out: Tensor = model.generate(ids, attention_mask=torch.ones_like(ids), **options)
    return out


def _generate_pruned(model: Any, ids: Tensor, share: float) -> tuple[Tensor, Any]:
    """Return the same with cascade pruning, and the run."""
    with sc.cascade.apply(model, sc.cascade.Schedule(token_keep=share), record=True) as handle:
        out = _generate(model, ids)
    return out, handle.last_run


def _text(decoder: Decoder, tokens: list[int], prompt: Tensor) -> str:
    """Return what follows the prompt, on one line."""
    return repr(decoder.decode(tokens[prompt.shape[1] :]))


def _reads(run: Any) -> list[list[list[int]]]:
    """Return the rows of the cache that were read: [layer][step], ascending."""
    return [[run.tokens(step, layer, 0).tolist() for step in range(run.steps)] for layer in range(run.model.layers)]


def _passage(decoder: Decoder, tokens: list[int], run: Any) -> str:
    """Draw the tokens with the share of steps in which the last layer read each."""
    last, seen = [set(rows) for rows in _reads(run)[-1]], run.seen[:, 0].tolist()
    places = range(seen[-1])
    read = [sum(token in rows for rows in last) for token in places]
    could = [sum(token < count for count in seen) for token in places]
    shares = [a / b for a, b in zip(read, could, strict=True)]
    notes = [f"read in {a} of {b} steps" for a, b in zip(read, could, strict=True)]
    return passage_svg([_shown(decoder.decode([tokens[place]])) for place in places], shares, notes)


def _shown(text: str) -> str:
    return text.replace("\n", "⏎").replace(" ", "·")


def _of_bytes(ids: list[int]) -> str:
    return bytes(ids).decode(errors="replace")
