"""The presets that mirror DRAMsim3 and Ramulator 2.1 against what those tools gave for the same requests.

The figures are of runs of DRAMsim3 (github.com/umd-memsys/DRAMsim3, its HBM2_8Gb_x128 with two address mappings) and
Ramulator 2.1 (github.com/CMU-SAFARI/ramulator2, its presets HBM2_8Gb and HBM2_2000Mbps, 8 channels, queues of 64 + 64,
two address mappings), both at 256 GB/s. Requests went in program order into one FIFO of 64 bursts for each channel.
`dram_traces` says what they were. Fractions are of the peak; time ends with the data of the last read or when the last
write was taken.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import pytest
from dram_traces import MIB, gather, rand, sequential

from simulator.memory import load_memory
from simulator.memory.replay import replay_trace
from simulator.memory.result import ReplayResult, make_result

# Name -> preset and address map. Coarse and fine are rorabgbachco and rorabacobgch in DRAMsim3's words.
MACHINES = {
    "dramsim3 coarse": ("hbm2-dramsim3", "r15 g2 b2 h3 c5 o6"),
    "dramsim3 fine": ("hbm2-dramsim3", "r15 b2 c5 g2 h3 o6"),
    "ramulator fine": ("hbm2-ramulator", "r16 b2 c5 g2 p1 h3 o5"),
    "ramulator colfirst": ("hbm2-ramulator", "r16 b2 g2 c5 p1 h3 o5"),
}


def replay(machine: str, trace: Iterable[bytes], merge: bool = True) -> ReplayResult:
    preset, address_map = MACHINES[machine]
    spec = load_memory(preset, settings={"address_map": address_map})
    return make_result(replay_trace(spec, trace, merge=merge), spec, "trace", "idd")


def kept_tokens(keep: int = 307) -> Iterator[bytes]:
    """30 % of 1024 tokens, rows of 64 x 12 bit, four layers of twelve heads."""
    return gather(layers=4, heads=12, keep=keep, size=96)


@pytest.mark.parametrize(
    ("machine", "read", "write"),
    [
        ("dramsim3 coarse", 0.921, 0.922),
        ("dramsim3 fine", 0.920, 0.923),
        ("ramulator fine", 0.898, 0.896),
        ("ramulator colfirst", 0.895, 0.894),
    ],
)
def test_sequential(machine: str, read: float, write: float) -> None:
    assert replay(machine, sequential(16 * MIB)).bus_fraction == pytest.approx(read, rel=0.01)
    assert replay(machine, sequential(16 * MIB, write=True)).bus_fraction == pytest.approx(write, rel=0.01)


@pytest.mark.parametrize(
    ("machine", "fraction"),
    [
        ("dramsim3 coarse", 0.241),
        ("dramsim3 fine", 0.240),
        ("ramulator fine", 0.301),
        ("ramulator colfirst", 0.301),
    ],
)
def test_random_reads(machine: str, fraction: float) -> None:
    assert replay(machine, rand(64, 131_072), merge=False).bus_fraction == pytest.approx(fraction, rel=0.02)


@pytest.mark.parametrize(
    ("machine", "bus", "useful"),
    [
        ("dramsim3 coarse", 0.836, 0.678),
        ("dramsim3 fine", 0.853, 0.692),
        ("ramulator fine", 0.793, 0.793),
        ("ramulator colfirst", 0.785, 0.785),
    ],
)
def test_gather_of_kept_tokens(machine: str, bus: float, useful: float) -> None:
    result = replay(machine, kept_tokens())
    assert result.bus_fraction == pytest.approx(bus, rel=0.02)
    assert result.useful_fraction == pytest.approx(useful, rel=0.02)


@pytest.mark.parametrize(("machine", "thirty", "ten"), [("dramsim3 fine", 0.33, 0.47), ("ramulator fine", 0.13, 0.28)])
def test_what_a_flat_bandwidth_would_overstate(machine: str, thirty: float, ten: float) -> None:
    """By how much 1 / kept share exceeds the speedup of keeping 30 % and 10 % of the tokens."""
    time = {keep: replay(machine, kept_tokens(keep)).time_ns for keep in (1024, 307, 102)}
    for keep, overstated in ((307, thirty), (102, ten)):
        assert 1024 / keep / (time[1024] / time[keep]) - 1 == pytest.approx(overstated, abs=0.02)


def test_latency_of_random_reads_on_an_almost_idle_memory() -> None:
    result = replay("dramsim3 fine", rand(64, 20_000, gap=10), merge=False)
    assert result.read_latency_ns == pytest.approx(55, rel=0.02)


@pytest.mark.parametrize(
    ("machine", "sequentially", "randomly", "gathered"),
    [("dramsim3 coarse", 1.96, 4.49, 2.09), ("dramsim3 fine", 1.97, 4.49, 2.08)],
)
def test_energy_per_bit(machine: str, sequentially: float, randomly: float, gathered: float) -> None:
    """That tool's own sum: currents of the core, without the I/O drivers."""
    runs = (
        (replay(machine, sequential(16 * MIB)), sequentially),
        (replay(machine, rand(64, 131_072), merge=False), randomly),
        (replay(machine, kept_tokens()), gathered),
    )
    for result, pj_per_bit in runs:
        assert result.energy_pj_per_bit == pytest.approx(pj_per_bit, rel=0.02)
