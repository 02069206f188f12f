"""The workload: what a model computes on given inputs, and the ways to get one."""

from simulator.workload.decisions import Decision
from simulator.workload.ir import AttentionOp, Kind, LinearOp, ModelInfo, OtherOp, Sequence, Workload
from simulator.workload.request import ReadRequest

__all__ = [
    "AttentionOp",
    "Decision",
    "Kind",
    "LinearOp",
    "ModelInfo",
    "OtherOp",
    "ReadRequest",
    "Sequence",
    "Workload",
]
