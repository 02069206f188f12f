"""The sections of a memory file: strict models, every quantity with its unit."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from simulator.memory.quantities import Bytes, Current, Duration, Time, TimeAbove0, Voltage
from simulator.settings import Settings

__all__ = [
    "ALIASES",
    "Admission",
    "Controller",
    "EnergySources",
    "Idd",
    "Organisation",
    "PerAccess",
    "Supply",
    "Timing",
]

# Names accepted for two timings at once, in files and in settings.
ALIASES = {
    "tRCD": ("tRCDRD", "tRCDWR"),
    "tRRD": ("tRRD_S", "tRRD_L"),
    "tCCD": ("tCCD_S", "tCCD_L"),
    "tWTR": ("tWTR_S", "tWTR_L"),
}
ZERO = Duration(0.0)
MOST = 1 << 40  # of any count; the compiled model has a lower bound for some


class Organisation(Settings):
    """Counts per level. A unit (a rank of a pseudo-channel) has `stack_ids * bank_groups * banks_per_group` banks.

    `page` is the row of a bank over all devices of a unit; `burst` what one access moves. Stack ids (HBM3) share all of
    their unit but have bank groups of their own.
    """

    channels: int = Field(default=1, ge=1, le=MOST)
    pseudo_channels: int = Field(default=1, ge=1, le=MOST)
    ranks: int = Field(default=1, ge=1, le=MOST)
    stack_ids: int = Field(default=1, ge=1, le=MOST)
    bank_groups: int = Field(default=1, ge=1, le=MOST)
    banks_per_group: int = Field(ge=1, le=MOST)
    rows: int = Field(ge=1, le=MOST)
    page: Bytes
    burst: Bytes

    @property
    def page_bytes(self) -> int:
        """Bytes in a row of a unit."""
        return self.page

    @property
    def burst_bytes(self) -> int:
        """Bytes of one burst."""
        return self.burst


class Timing(Settings):
    """Timings, in files under the names of JEDEC's standards (the alias of each field).

    tBURST is how long a burst holds the data bus; turnaround the idle time of that bus between a read and a write, so
    that RD to WR is tCL + tBURST + turnaround - tCWL. Defaults: tRC = tRAS + tRP; tCCD_S_WR, tCCD_L_WR (write to write)
    and tCCD_R (to another stack id) as tCCD_S, tCCD_L, tCCD_S; turnaround, tRTRS (to another rank), tPPD (precharge to
    precharge), tAAD (LPDDR5: latest second command of an activation; 0: it is one command), tRFCpb and tRREFD (per-bank
    refresh to ACT of another bank) 0. tRFC and tREFI may be left out without refresh.
    """

    burst: TimeAbove0 = Field(alias="tBURST")
    cl: Time = Field(alias="tCL")
    cwl: Time = Field(alias="tCWL")
    rcd_read: Time = Field(alias="tRCDRD")
    rcd_write: Time = Field(alias="tRCDWR")
    rp: Time = Field(alias="tRP")
    ras: Time = Field(alias="tRAS")
    rc: Time | None = Field(default=None, alias="tRC")
    rrd_short: Time = Field(alias="tRRD_S")
    rrd_long: Time = Field(alias="tRRD_L")
    faw: Time = Field(alias="tFAW")
    aad: Time = Field(default=ZERO, alias="tAAD")
    ccd_short: Time = Field(alias="tCCD_S")
    ccd_long: Time = Field(alias="tCCD_L")
    ccd_short_write: Time | None = Field(default=None, alias="tCCD_S_WR")
    ccd_long_write: Time | None = Field(default=None, alias="tCCD_L_WR")
    ccd_stack: Time | None = Field(default=None, alias="tCCD_R")
    wtr_short: Time = Field(alias="tWTR_S")
    wtr_long: Time = Field(alias="tWTR_L")
    rtp: Time = Field(alias="tRTP")
    wr: Time = Field(alias="tWR")
    turnaround: Time = ZERO
    rtrs: Time = Field(default=ZERO, alias="tRTRS")
    ppd: Time = Field(default=ZERO, alias="tPPD")
    rfc: Time = Field(default=ZERO, alias="tRFC")
    rfc_bank: Time = Field(default=ZERO, alias="tRFCpb")
    rrefd: Time = Field(default=ZERO, alias="tRREFD")
    refi: Time = Field(default=ZERO, alias="tREFI")


class Slots(Settings):
    """Clocks that a command holds its command bus; it takes effect in the last of them."""

    activate: int = Field(default=1, ge=0, le=MOST)
    precharge: int = Field(default=1, ge=0, le=MOST)
    read: int = Field(default=1, ge=0, le=MOST)
    write: int = Field(default=1, ge=0, le=MOST)
    refresh: int = Field(default=1, ge=0, le=MOST)


class Controller(Settings):
    """The controller of a channel; counts are bursts. All of it may be left out.

    queues: one shared queue each for reads and writes (default, 64 + 64), or `per_bank`: those two in front of one
        queue of `bank_queue` (8) for each bank.
    row_hit_cap: bursts per activation while others wait for the bank; 0 (default): no cap.
    coalesce_reads, coalesce_writes: a burst of a line that a waiting one of its direction will move is not sent again
        (false). A read of a line that waits to be written is always answered from the queue.
    rows: stay `open` (default), `closed` with every access, or `adaptive`: closed when no waiting burst hits them.
    write_high, write_low: writes waiting that start and end a drain; by default just above 80 % and just below 20 % of
        write_queue. write_idle (1): without waiting reads, so many writes start a drain.
    refresh: `all_bank` (default), `per_bank` or `none`. While one is due, the `channel` (default) or only the `rank`
        sends no reads or writes. precharge_all (true): one command closes the rows for it, instead of one for each.
    command_bus: `shared` (default), or `split` into row and column commands. slots: see Slots, 1 each by default.
    command_align: 2: all commands but precharge start at every second clock (default 1).
    delay: time in the controller that is added to each read (default 0).
    """

    queues: Literal["shared", "per_bank"] = "shared"
    read_queue: int = Field(default=64, ge=1, le=MOST)
    write_queue: int = Field(default=64, ge=2, le=MOST)
    bank_queue: int = Field(default=8, ge=1, le=MOST)
    row_hit_cap: int = Field(default=0, ge=0, le=MOST)
    coalesce_reads: bool = False
    coalesce_writes: bool = False
    rows: Literal["open", "closed", "adaptive"] = "open"
    write_high: int | None = Field(default=None, ge=1, le=MOST)
    write_low: int | None = Field(default=None, ge=0, le=MOST)
    write_idle: int = Field(default=1, ge=1, le=MOST)
    refresh: Literal["all_bank", "per_bank", "none"] = "all_bank"
    refresh_stalls: Literal["channel", "rank"] = "channel"
    precharge_all: bool = True
    command_bus: Literal["split", "shared"] = "shared"
    slots: Slots = Slots()
    command_align: int = Field(default=1, ge=1, le=2)
    delay: Time = ZERO

    @property
    def watermarks(self) -> tuple[int, int]:
        """Writes in the queue that start and end a drain."""
        high = 4 * self.write_queue // 5 + 1 if self.write_high is None else self.write_high
        low = max((self.write_queue + 4) // 5 - 1, 0) if self.write_low is None else self.write_low
        return high, low


class Admission(Settings):
    """How bursts get from their source into the controllers. All of it may be left out.

    depth: entries of the FIFO in front of a channel (default: 512 shared among the channels).
    order: a burst whose FIFO is full holds back all later ones (`program`, default) or those of its `channel`.
    rate: bursts that enter the FIFOs in a clock (64).
    channel_rate: bursts that a channel takes from its FIFO in a clock; 0 (default): no bound.
    run_ahead: how far a burst may enter ahead of the oldest one not yet served; 0 (default): no bound.
    """

    depth: int | None = Field(default=None, ge=1, le=MOST)
    order: Literal["program", "channel"] = "program"
    rate: int = Field(default=64, ge=1, le=MOST)
    channel_rate: int = Field(default=0, ge=0, le=MOST)
    run_ahead: int = Field(default=0, ge=0, le=MOST)


class PerAccess(Settings):
    """Energy per event. Each is "table.constant" of simulator/tech/tables, or a number with its unit ("909 pJ").

    What is left out is part of movement_per_bit, as where only a total per bit is published. refresh and the standby
    powers are those of a rank of a whole channel: each of its pseudo-channels has its share.
    """

    activation: str | None = None
    movement_per_bit: str
    io_per_bit: str | None = None
    refresh: str | None = None
    active_standby: str | None = None
    precharged_standby: str | None = None


class Published(Settings):
    """Constants as in PerAccess; the low and high of each widen the interval of the energy derived from currents."""

    activation: str | None = None
    movement_per_bit: str | None = None
    io_per_bit: str | None = None
    refresh: str | None = None


class Supply(Settings):
    """The currents of one supply of a device, in mA at `vdd` volts, named as in data sheets."""

    vdd: Voltage
    idd0: Current = Field(alias="IDD0")
    idd2n: Current = Field(alias="IDD2N")
    idd3n: Current = Field(alias="IDD3N")
    idd4r: Current = Field(alias="IDD4R")
    idd4w: Current = Field(alias="IDD4W")
    idd5ab: Current = Field(alias="IDD5AB")
    idd5pb: Current | None = Field(default=None, alias="IDD5PB")


class Idd(Supply):
    """The currents of the devices of a unit; `devices` may be a fraction, such as 0.5 for one of two pseudo-channels.

    rails: further supplies of the core. io: the supply of the I/O drivers, reported apart.
    published: other published energies.
    """

    devices: float = Field(default=1.0, gt=0, strict=False)
    rails: tuple[Supply, ...] = Field(default=(), strict=False)
    io: Supply | None = None
    published: Published = Published()
    source: str


class EnergySources(Settings):
    """Where the energies come from; a memory has either model, both, or none. default: the one to prefer if both."""

    default: Literal["per-access", "idd"] = "per-access"
    per_access: PerAccess | None = None
    idd: Idd | None = None
