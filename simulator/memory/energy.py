"""Energy of a DRAM from counted events: activations, bits moved, I/O, refresh and background, each with its source."""

from __future__ import annotations

from dataclasses import dataclass

from simulator.memory.spec import MemorySpec
from simulator.tech import Constant, constant

__all__ = ["DramEnergy", "dram_energy"]

PJ_PER_MW_NS = 1.0  # 1 mW x 1 ns = 1 pJ


@dataclass(frozen=True, slots=True)
class DramEnergy:
    """One part of the DRAM's energy in pJ; `low` and `high` follow from the spread of the published constants."""

    energy_pj: float
    low_pj: float
    high_pj: float
    source: str
    constant: Constant


def dram_energy(
    spec: MemorySpec, bursts: int, activations: int, time_ns: float, active_ns: float
) -> dict[str, DramEnergy]:
    """Return the parts of the DRAM's energy over a run.

    activation = ACT count x e_act; movement = bits x e_move; io = bits x e_io;
    refresh = channels x time / tREFI x e_ref; standby_active = channels x P_active x t_active;
    standby_precharged = channels x P_precharged x (t - t_active).

    Parameters
    ----------
    bursts, activations: counted by the timing model, reads and writes together.
    time_ns: length of the run. active_ns: the part of it with requests under way (rows count as open then).
    """
    bits = 8 * bursts * spec.organisation.burst_bytes
    channels = spec.organisation.channels
    refreshes = channels * time_ns / spec.timing_ns.refi if spec.timing_ns.refi > 0 else 0.0
    where = f"memory {spec.name}"
    sources = spec.energy
    parts = {
        "dram.activation": (float(activations), constant(sources.activation, where, "pJ")),
        "dram.movement": (float(bits), constant(sources.movement_per_bit, where, "pJ/bit")),
        "dram.io": (float(bits), constant(sources.io_per_bit, where, "pJ/bit")),
        "dram.refresh": (refreshes, constant(sources.refresh, where, "pJ")),
        "dram.standby_active": (channels * active_ns * PJ_PER_MW_NS, constant(sources.active_standby, where, "mW")),
        "dram.standby_precharged": (
            channels * max(time_ns - active_ns, 0.0) * PJ_PER_MW_NS,
            constant(sources.precharged_standby, where, "mW"),
        ),
    }
    return {
        name: DramEnergy(count * c.value, count * c.low, count * c.high, c.source, c)
        for name, (count, c) in parts.items()
    }
