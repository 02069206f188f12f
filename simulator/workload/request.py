"""What a reader of model files is asked for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from simulator.designs.decision import Rule

__all__ = ["ReadRequest"]


@dataclass(frozen=True, slots=True)
class ReadRequest:
    """The options of `simulate run` that matter to a reader; readers of other packages get the same object.

    Parameters
    ----------
    input: a file of token ids, texts or tensors to run the model on; None: nothing is measured.
    schedule: a schedule file, the name of a built-in one, "none", or None for the design's documented one.
    seq_len: tokens per sequence where there is no input; None: the default of the model.
    batch: number of sequences.
    generate: tokens to generate after the prompt (0: summarisation only); None: the default of the model.
    config: a Hugging Face config.json for what tensor shapes cannot tell.
    heads: the number of attention heads, for the same.
    trust_pickle: whether the user allowed to run code from the model file.
    rules: of the designs to simulate; a reader that runs the model lets them decide from its Q, K and V.
    keep_tensors: the workload file beside which Q, K and V are written; None: they are not kept.
    unquantised: how K, Q and V of width -1 in a file of requests are stored: "8+4" or "32".
    """

    input: str | None = None
    schedule: str | None = None
    seq_len: int | None = None
    batch: int = 1
    generate: int | None = None
    config: str | None = None
    heads: int | None = None
    trust_pickle: bool = False
    unquantised: str = "8+4"
    rules: tuple[Rule, ...] = ()
    keep_tensors: str | None = None
