"""Running a design's pruning rule on the Q, K and V of a model: as they come, layer by layer, or kept in a file."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator

from simulator.designs.decision import AttentionTensors, Rule, choose, decide
from simulator.errors import MissingTensorsError
from simulator.workload.decisions import Decision
from simulator.workload.ir import Workload
from simulator.workload.tensors import LayerTensors, opened

__all__ = ["decide_layer", "decided_offline", "part_of", "with_decisions"]


def decide_layer(rule: Rule, tensors: LayerTensors, sequence: int, layer: int, prompt: int) -> Iterator[Decision]:
    """Yield what `rule` decides for a layer's summarisation of the first `prompt` tokens, and for each later token.

    Queries of generated tokens see the keys before them. Where the rule looks at each query by itself
    (`Rule.single_queries`), all of them are decided in one call.
    """
    total = tensors.q.shape[1]
    if prompt:
        yield decide(rule, (layer, sequence, "summarise", 0), part_of(tensors, slice(0, prompt), prompt))
    if rule.single_queries and total > prompt:
        together = choose(rule, part_of(tensors, slice(prompt, total), total))
        for step in range(total - prompt):
            yield together.decision((layer, sequence, "generate", step), slice(step, step + 1))
        return
    for step in range(total - prompt):
        part = part_of(tensors, slice(prompt + step, prompt + step + 1), prompt + step + 1)
        yield decide(rule, (layer, sequence, "generate", step), part)


def part_of(tensors: LayerTensors, queries: slice, keys: int) -> AttentionTensors:
    """Return what some queries of a layer have to do with its first `keys` keys."""
    k, v = tensors.k[:, :keys], tensors.v[:, :keys]
    return AttentionTensors(tensors.q[:, queries], k, v, tensors.scale, tensors.seen(queries, keys))


def decided_offline(workload: Workload, rules: Iterable[Rule]) -> Workload:
    """Return `workload` with the decisions of `rules`, made from its kept tensors, one layer in memory at a time.

    Raises
    ------
    MissingTensorsError: it has none. FileMissingError, CorruptFileError: they cannot be read.
    """
    wanted = [rule for rule in rules if not workload.decided(rule.name)]
    if not wanted:
        return workload
    if workload.tensors is None:
        raise _missing(workload, wanted[0])
    made: list[Decision] = []
    places = {(op.sequence, op.layer) for op in workload.attention}
    with opened(workload.tensors) as reader:
        for sequence, layer in sorted(places):
            tensors, prompt = reader.layer(sequence, layer), workload.sequences[sequence].tokens
            for rule in wanted:
                made.extend(decide_layer(rule, tensors, sequence, layer, prompt))
    known = {op.place for op in workload.attention}
    mine = tuple(decision for decision in made if decision.place in known)  # a part of a workload has fewer ops
    return dataclasses.replace(workload, decisions=(*workload.decisions, *mine))


def with_decisions(workload: Workload, rule: Rule | None) -> Workload:
    """Return `workload` as a design with `rule` runs it: with its decisions, where it was captured.

    A workload without any decision or tensors was not captured for such designs: fractions stand in for them.

    Raises
    ------
    MissingTensorsError: it was captured for other rules, and its tensors were not kept. As `decided_offline`.
    """
    captured = workload.decisions or workload.tensors is not None
    if rule is None or not captured or (rule.keeps_all and workload.tensors is None):
        return workload
    return decided_offline(workload, [rule])


def _missing(workload: Workload, rule: Rule) -> MissingTensorsError:
    there = sorted({made.rule for made in workload.decisions})
    return MissingTensorsError(
        f"the workload has no decisions by {rule.name!r}, and its Q, K and V were not kept",
        where=f"workload {workload.name}",
        expected=("decisions by " + " or ".join(map(repr, there))) if there else "a workload captured with tensors",
        hint="capture the model again with --arch and this design, or with --keep-tensors",
    )
