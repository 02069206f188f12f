"""Rows closed with a column command, while another burst has opened the row and still waits for its own."""

from __future__ import annotations

import pytest

from simulator.memory import load_memory
from simulator.memory.replay import replay_trace


@pytest.mark.parametrize("rows", ["closed", "adaptive"])
def test_a_row_stays_open_for_the_burst_that_opened_it(rows: str) -> None:
    """The first write opens a row; a read of the row may be served before it, but does not close it."""
    spec = load_memory("hbm2", settings={"controller.rows": rows})
    trace = b"15116 R 0x6f75 32\n15120 R 0xf659 64\n15127 W 0xe545 96\n15128 W 0xf545 4096\n"
    replay = replay_trace(spec, [trace], merge=False)
    assert (replay.reads, replay.writes) == (2 + 3, 4 + 129)
    assert replay.precharges == sum(stream.activates for stream in replay.streams)


def test_open_rows_end_with_the_run() -> None:
    """The precharge of the last write ends tWR after the last data: that time belongs to no run."""
    spec = load_memory("ddr4-3200", settings={"controller.rows": "closed", "organisation.channels": "1"})
    replay = replay_trace(spec, [b"W 0 64\n"])
    timing = spec.timing_ticks
    assert replay.active_ticks == timing["rcd_write"] + timing["cwl"] + timing["burst"]
    assert replay.active_ticks < replay.ticks
