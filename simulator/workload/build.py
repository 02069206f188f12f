"""A workload from the sizes of a model and a pruning schedule, where no run has been measured.

Counts
------
Tokens. Layer l of the summarisation works on floor(keep_l * length) tokens, chosen after layer l - 1: its projections,
its attention and its feed-forward network all see the same tokens. In generation K and V hold what is kept of the
prompt and of the tokens generated so far; keep_l then refers to the final length (prompt + generated), as in the
workloads that the authors of SpAtten released.
V rows. Each query multiplies local = floor(value_keep * kept) rows. Those that have to be fetched are the union over q
queries; for queries that choose independently its expected size is n (1 - (1 - local / n)^q) of n kept rows. Real
queries agree more, so this is an upper bound in expectation; with one query it is exact.
Low bits. lsb_share of the queries are computed again; fractions of a query are carried to the next head of that share.
Which tokens and heads are kept is not known without a run: heads are numbered from 0, tokens carry no ids.
Everything that is no matrix product is counted by the table `RULES`, per element.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TypeAlias

from simulator.errors import InvalidValueError
from simulator.workload.families import Family, Linear, Other, family_named, sizes
from simulator.workload.ir import AttentionOp, Kind, LinearOp, ModelInfo, OtherOp, Phase, Sequence, Workload
from simulator.workload.schedule import LayerPlan, Schedule, kept

__all__ = ["RULES", "Pattern", "build", "element_bits", "expected_union"]

Select: TypeAlias = tuple[int, int] | None


@dataclass(frozen=True, slots=True)
class Rule:
    """Operations per output element, and how many inputs of the same size are read."""

    operations: int
    inputs: int


RULES = {
    # mean 1, centre 1, square and sum 2, scale by 1/std 1, weight 1, bias 1
    "layer_norm": Rule(7, 1),
    # square and sum 2, scale by 1/rms 1, weight 1
    "rms_norm": Rule(4, 1),
    # x * 0.5 * (1 + erf(x / sqrt 2)): erf counts as one
    "gelu": Rule(5, 1),
    # up * gate * sigmoid(gate): exp, add, divide, two products
    "gated_silu": Rule(5, 2),
    "tanh": Rule(1, 1),
    "residual": Rule(1, 2),
    # two products and a sum per rotated element
    "rotary": Rule(3, 1),
}

_BITS = {"f64": 64, "f32": 32, "f16": 16, "bf16": 16, "i8": 8, "u8": 8, "f8_e4m3": 8, "f8_e5m2": 8}


@dataclass(frozen=True, slots=True)
class Pattern:
    """The sparsity of one weight: name of the pattern and kept share."""

    name: str = "dense"
    density: float = 1.0


@dataclass(slots=True)
class _Ops:
    """The ops made so far, and per share the fraction of a query that is still to be computed with low bits."""

    attention: list[AttentionOp] = field(default_factory=list)
    linear: list[LinearOp] = field(default_factory=list)
    other: list[OtherOp] = field(default_factory=list)
    carry: dict[float, float] = field(default_factory=dict)

    def low_bit_queries(self, share: float, queries: int) -> int:
        exact = share * queries + self.carry.get(share, 0.0)
        whole = min(queries, int(exact + 1e-6))
        self.carry[share] = exact - whole
        return whole


@dataclass(frozen=True, slots=True)
class _Job:
    """What stays the same over all ops of one workload."""

    model: ModelInfo
    family: Family
    schedule: Schedule
    plan: tuple[LayerPlan, ...]
    seq_len: int
    batch: int
    generate: int
    patterns: Mapping[tuple[int | None, str], Pattern] | None

    @property
    def one_sequence(self) -> int | None:
        """The sequence of the ops that compute a whole batch at once: None if there are several."""
        return 0 if self.batch == 1 else None


@dataclass(frozen=True, slots=True)
class _Pass:
    """One pass through the model.

    context: tokens before pruning. keys: kept keys per layer. targets: what the schedule keeps per layer
    once the context is long enough. heads: kept per layer. prunes: whether the schedule applies at all.
    """

    phase: Phase
    step: int
    kind: Kind
    prunes: bool
    context: int
    keys: list[int]
    targets: list[int]
    heads: list[int]

    def queries(self, layer: int) -> int:
        return self.keys[layer] if self.phase == "summarise" else 1

    @property
    def all_tokens(self) -> int:
        """Tokens outside the layers, where nothing is pruned."""
        return self.context if self.phase == "summarise" else 1


def element_bits(dtype: str) -> int:
    """Return the width of an element type as safetensors names it (in lower case).

    Raises
    ------
    InvalidValueError: a type that is not known.
    """
    if dtype not in _BITS:
        raise InvalidValueError(f"unknown element type {dtype!r}", expected="one of " + ", ".join(_BITS))
    return _BITS[dtype]


def expected_union(rows: int, each: int, queries: int) -> int:
    """Return the expected number of distinct rows that `queries` independent choices of `each` of `rows` touch."""
    if rows == 0 or each >= rows or queries <= 1:
        return min(rows, each) if queries else 0
    return max(each, round(rows * (1 - (1 - each / rows) ** queries)))


def build(
    model: ModelInfo,
    schedule: Schedule,
    seq_len: int,
    batch: int = 1,
    generate: int = 0,
    *,
    name: str = "",
    source: str = "",
    patterns: Mapping[tuple[int | None, str], Pattern] | None = None,
) -> Workload:
    """Return what `model` computes under `schedule`.

    Parameters
    ----------
    seq_len: tokens of each sequence (of the prompt, where tokens are generated). batch: equal sequences.
    generate: tokens generated after the prompt; step t attends to seq_len + t + 1 tokens before pruning.
    patterns: sparsity by (layer, linear) as found in the weights; linears that it leaves out are assumed to be dense.
        None where there are no weights: dense as published.

    Raises
    ------
    InvalidValueError: a length is out of range, or an encoder is asked to generate.
    UnsupportedError: a family whose layers are not described.
    """
    family = family_named(model.family)
    _check_lengths(family, seq_len, batch, generate)
    job = _Job(model, family, schedule, schedule.plan(model.layers), seq_len, batch, generate, patterns)
    ops = _Ops()
    for now in (_summarise(job), *(_generate(job, step) for step in range(generate))):
        _add_pass(job, now, ops)
    notes = [f"schedule {schedule.name}: {schedule.description} ({schedule.source})"]
    notes += ["kept heads are numbered from 0: which ones are kept is not known without a run"]
    if not family.encoder:
        notes.append("the summarisation counts the whole square of scores: causal masking is not exploited")
    return Workload(
        name=name or f"{model.family}, {seq_len} tokens",
        model=model,
        sequences=tuple(Sequence(index, seq_len) for index in range(batch)),
        attention=tuple(ops.attention),
        linear=tuple(ops.linear),
        other=tuple(ops.other),
        schedule=schedule.name,
        source=source,
        notes=tuple(notes),
    )


def _check_lengths(family: Family, seq_len: int, batch: int, generate: int) -> None:
    if seq_len < 1 or batch < 1 or generate < 0:
        raise InvalidValueError(
            f"seq_len {seq_len}, batch {batch}, generate {generate}", expected="seq_len and batch >= 1, generate >= 0"
        )
    if generate and family.encoder:
        raise InvalidValueError(
            f"a {family.name} model generates no tokens", where="--generate", expected="0", hint="use --seq-len"
        )


def _heads(job: _Job, prunes: bool) -> list[int]:
    return [kept(job.model.heads, plan.head_keep if prunes else 1.0) for plan in job.plan]


def _tokens(job: _Job, plan: LayerPlan, length: int, prunes: bool) -> int:
    """Return how many of `length` tokens a layer keeps: no fewer than are protected."""
    return max(kept(length, plan.token_keep), min(length, job.schedule.protect)) if prunes else length


def _summarise(job: _Job) -> _Pass:
    prunes = "summarise" in job.schedule.phases
    keys = [_tokens(job, plan, job.seq_len, prunes) for plan in job.plan]
    kind = job.schedule.kind(job.model, job.seq_len, job.generate, "summarise")
    return _Pass("summarise", 0, kind, prunes, job.seq_len, keys, keys, _heads(job, prunes))


def _generate(job: _Job, step: int) -> _Pass:
    prunes, prompt_pruned = "generate" in job.schedule.phases, "summarise" in job.schedule.phases
    # Importance is accumulated by the first pass: a schedule that leaves the prompt whole drops tokens from step 1 on.
    drops = prunes and (step > 0 or prompt_pruned)
    final = job.seq_len + job.generate
    targets = [_tokens(job, plan, final, drops) for plan in job.plan]
    # What a layer dropped of the prompt does not come back, however long the final sequence will be.
    prompt = [_tokens(job, plan, job.seq_len, prompt_pruned) for plan in job.plan]
    keys = [min(target, left + step + 1) for target, left in zip(targets, prompt, strict=True)]
    kind = job.schedule.kind(job.model, job.seq_len, job.generate, "generate")
    return _Pass("generate", step, kind, prunes, job.seq_len + step + 1, keys, targets, _heads(job, prunes))


def _add_pass(job: _Job, now: _Pass, ops: _Ops) -> None:
    """Add the ops of one pass, those of a layer for the whole batch at once except for attention."""
    _embed(job, now, ops)
    token_select, head_select = _selections(now.keys), _selections(now.heads)
    token_select[-1] = _select_for_next(job, now)
    for layer in range(job.model.layers):
        for sequence in range(job.batch):
            ops.attention.append(_attention(job, now, ops, layer, sequence, (token_select[layer], head_select[layer])))
        ops.linear += [_linear(job, now, layer, linear, now.queries(layer)) for linear in job.family.linears]
        ops.other += [_other(job, now, layer, other, now.queries(layer)) for other in job.family.others]
    _finish(job, now, ops)


def _selections(counts: list[int]) -> list[Select]:
    """Return the top-k after each layer: (candidates, kept) where the next layer has fewer."""
    return [(now, then) if then < now else None for now, then in pairwise(counts)] + [None]


def _select_for_next(job: _Job, now: _Pass) -> Select:
    """Return the top-k behind the last layer where the first layer of the next step drops tokens of this one."""
    if now.phase == "summarise" or now.step + 1 >= job.generate:
        return None
    then = _generate(job, now.step + 1)
    return (now.context, then.keys[0]) if then.keys[0] < now.context and then.targets[0] < now.context else None


def _attention(
    job: _Job, now: _Pass, ops: _Ops, layer: int, sequence: int, selects: tuple[Select, Select]
) -> AttentionOp:
    plan, bits, model = job.plan[layer], job.schedule.bits, job.model
    keys, heads, queries = now.keys[layer], now.heads[layer], now.queries(layer)
    local = min(keys, kept(now.targets[layer], plan.value_keep)) if now.prunes else keys
    low_bits = bits.key_lsb if now.prunes else 0
    share = plan.first_lsb_share if now.phase == "generate" and now.step == 0 else plan.lsb_share
    return AttentionOp(
        layer=layer,
        sequence=sequence,
        phase=now.phase,
        step=now.step,
        context=now.context,
        queries=queries,
        keys=keys,
        heads=tuple(range(heads)),
        kv_heads=-(-heads * model.kv_heads // model.heads),
        head_dim=model.head_dim,
        values=(expected_union(keys, local, queries),) * heads,
        local_values=local,
        lsb_queries=tuple(ops.low_bit_queries(share if low_bits else 0.0, queries) for _ in range(heads)),
        query_bits=bits.query,
        key_msb_bits=bits.key_msb + bits.key_lsb - low_bits,
        key_lsb_bits=low_bits,
        value_bits=bits.value,
        token_select=selects[0],
        head_select=selects[1],
        kind=_kinds(job, now),
        protected=min(keys, job.schedule.protect if now.prunes else 0),
    )


def _kinds(job: _Job, now: _Pass) -> dict[str, Kind]:
    names = ("tokens", "heads", "values", "lsb", "bits")
    return {name: "assumed" if name in job.schedule.assumed else now.kind for name in names}


def _linear(job: _Job, now: _Pass, layer: int | None, linear: Linear, tokens: int) -> LinearOp:
    named = sizes(job.model)
    found = None if job.patterns is None else job.patterns.get((layer, linear.name))
    pattern = found or Pattern()
    return LinearOp(
        layer=layer,
        name=linear.name,
        sequence=job.one_sequence,
        phase=now.phase,
        step=now.step,
        tokens=tokens * job.batch,
        in_features=named[linear.reads],
        out_features=named[linear.makes],
        pattern=pattern.name,
        density=pattern.density,
        weight_bits=element_bits(job.model.dtype),
        kind={"tokens": now.kind, "pattern": _pattern_kind(job, found)},
    )


def _pattern_kind(job: _Job, found: Pattern | None) -> Kind:
    if job.patterns is None:
        return "published"
    return "assumed" if found is None else "measured"


def _other(job: _Job, now: _Pass, layer: int | None, other: Other, tokens: int) -> OtherOp:
    rule = RULES[other.rule]
    elements = tokens * job.batch * sizes(job.model)[other.size]
    return OtherOp(
        layer=layer,
        name=other.name,
        sequence=job.one_sequence,
        phase=now.phase,
        step=now.step,
        tokens=tokens * job.batch,
        elements=elements,
        operations=rule.operations * elements,
        bytes=(rule.inputs + 1) * elements * element_bits(job.model.dtype) // 8,
        kind={"tokens": now.kind},
    )


def _embed(job: _Job, now: _Pass, ops: _Ops) -> None:
    """Add what makes the tokens: a projection of patches, the sum of the embedding tables, a norm behind it."""
    if job.family.patches is not None:
        ops.linear.append(_linear(job, now, None, job.family.patches, now.all_tokens - 1))
    summed = _other(job, now, None, Other("embeddings", "residual"), now.all_tokens)
    tables = job.family.tables
    size = summed.elements * element_bits(job.model.dtype) // 8
    ops.other.append(dataclasses.replace(summed, operations=(tables - 1) * summed.elements, bytes=(tables + 1) * size))
    ops.other += [_other(job, now, None, other, now.all_tokens) for other in job.family.embedded]


def _finish(job: _Job, now: _Pass, ops: _Ops) -> None:
    """Add what follows the last layer: a final norm on all tokens, then pooler or lm_head on one a sequence.

    All tokens: a pruned one leaves the model with the state that it had when it was pruned.
    """
    ops.other += [_other(job, now, None, other, now.all_tokens) for other in job.family.after]
    ops.linear += [_linear(job, now, None, linear, 1) for linear in job.family.last]
    ops.other += [_other(job, now, None, other, 1) for other in job.family.finish]
