"""Memory files: quantities, address maps, settings, the shipped standards, and the error that each mistake gets."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from simulator.errors import ConfigError, FileMissingError, UnknownNameError
from simulator.memory import MemorySpec, load_memory, standard_names
from simulator.memory import spec as spec_module
from simulator.memory.address_map import map_text, parse_map, with_channel_bits

STANDARDS = Path(spec_module.__file__).parent / "standards"
# Peak GB/s: pins x transfers per second / 8.
PEAKS = {
    "hbm2": 8 * 128 * 2.0 / 8,
    "hbm2-legacy": 8 * 128 * 2.0 / 8,
    "hbm2-dramsim3": 8 * 128 * 2.0 / 8,
    "hbm2-ramulator": 8 * 128 * 2.0 / 8,
    "hbm3": 16 * 64 * 6.4 / 8,
    "ddr3-2133": 64 * 6.4 / 3 / 8,
    "ddr4-2400": 64 * 2.4 / 8,
    "ddr4-3200": 64 * 3.2 / 8,
    "ddr5-4800": 2 * 32 * 4.8 / 8,
    "lpddr4-3200": 4 * 16 * 3.2 / 8,
    "lpddr5-6400": 4 * 16 * 6.4 / 8,
    "gddr6-14": 2 * 16 * 14.0 / 8,
}


def shipped(change: str, to: str, tmp_path: Path, name: str = "hbm2") -> str:
    """Return a copy of a shipped file with one text replaced."""
    text = (STANDARDS / f"{name}.yaml").read_text()
    assert change in text
    path = tmp_path / "memory.yaml"
    path.write_text(text.replace(change, to))
    return str(path)


def line_of(path: str, text: str) -> int:
    return next(n for n, line in enumerate(Path(path).read_text().splitlines(), 1) if text in line)


# The shipped standards


def test_every_standard_has_a_known_peak() -> None:
    assert set(PEAKS) == set(standard_names())


@pytest.mark.parametrize("name", standard_names())
def test_standards_load_and_have_the_peak_of_their_pins(name: str) -> None:
    spec = load_memory(name)
    assert spec.name == name
    assert spec.peak_gb_per_s == pytest.approx(PEAKS[name])
    bits = sum(bits for _, bits in spec.sliced_map())
    assert spec.capacity_bytes == spec.organisation.burst_bytes << bits


@pytest.mark.parametrize("name", standard_names())
def test_every_number_of_a_standard_has_a_source(name: str) -> None:
    """The head names the source of all lines without one; what is our own choice says so."""
    text = (STANDARDS / f"{name}.yaml").read_text()
    head = text[: text.index("\nname:")]
    assert "github.com/" in head and "ours" in text
    assert "energy" in yaml.safe_load(text) or "# No energies: " in text


@pytest.mark.parametrize(
    ("name", "rtw"),
    [
        ("hbm2", 12),
        ("hbm2-ramulator", 13),
        ("hbm2-dramsim3", 14),
        ("hbm3", 2 * 20),
        ("ddr4-3200", 12),
        ("gddr6-14", 25),
    ],
)
def test_the_read_to_write_distance_is_that_of_the_source(name: str, rtw: int) -> None:
    assert load_memory(name).timing_ticks["rtw"] == rtw


def test_the_numbers_for_the_compiled_model() -> None:
    spec = load_memory("hbm3")
    assert spec.organisation_numbers == {
        "channels": 16, "pseudo_channels": 2, "ranks": 1, "stack_ids": 2, "bank_groups": 4, "banks_per_group": 4,
        "rows": 16384, "columns": 32, "burst_bytes": 32,
    }  # fmt: skip
    ticks = spec.timing_ticks  # half a CK each
    assert (ticks["cl"], ticks["rcd_read"], ticks["rc"], ticks["ccd_stack"], ticks["refi"]) == (40, 62, 144, 6, 12480)
    assert (ticks["ccd_short_write"], ticks["ccd_long_write"]) == (ticks["ccd_short"], ticks["ccd_long"]) == (4, 8)
    controller = spec.controller_numbers
    assert (controller["split_bus"], controller["align"], controller["act_slots"]) == (1, 2, 3)
    assert spec.admission_numbers == {"depth": 32, "program_order": 1, "rate": 64, "channel_rate": 0, "run_ahead": 0}
    assert spec.sliced_map()[0] == ("channel", 4) and spec.sliced_map()[-2:] == [("stack", 1), ("row", 14)]
    assert spec.units == 32 and spec.banks == 32


def test_the_presets_of_the_references() -> None:
    theirs = load_memory("hbm2-dramsim3")
    controller = theirs.controller_numbers
    expected = {"per_bank_queues": 1, "read_queue": 32, "write_queue": 32, "bank_queue": 8, "row_hit_cap": 4}
    expected |= {
        "write_high": 32,
        "write_low": 0,
        "refresh_stalls": 1,
        "precharge_all": 0,
        "split_bus": 1,
        "act_slots": 1,
    }
    expected |= {"coalesce_reads": 1, "coalesce_writes": 1, "write_idle": 9}
    assert {name: controller[name] for name in expected} == expected
    assert theirs.sliced_map() == [("column", 5), ("channel", 3), ("bank", 2), ("bank_group", 2), ("row", 15)]
    controller = load_memory("hbm2-ramulator").controller_numbers
    expected = {"per_bank_queues": 0, "read_queue": 64, "write_queue": 64, "write_high": 52, "write_low": 12}
    expected |= {"refresh_stalls": 0, "precharge_all": 1, "act_slots": 2, "pre_slots": 1, "delay": 1}
    expected |= {"coalesce_reads": 0, "coalesce_writes": 1}
    assert {name: controller[name] for name in expected} == expected


def test_watermarks_follow_the_size_of_the_write_queue() -> None:
    spec = load_memory("hbm2", settings={"controller.write_queue": "32"})
    assert (spec.controller_numbers["write_high"], spec.controller_numbers["write_low"]) == (26, 6)


# Quantities


@pytest.mark.parametrize(
    ("text", "ticks"),
    [
        ("14 ns", 14),
        ("14ns", 14),
        ("13.2 ns", 14),
        ("350 ps", 1),
        ("3.9 us", 3900),
        ("4 ck", 4),
        ("1e1 ns", 10),
        (".5 ns", 1),
    ],
)
def test_times_become_clocks_rounded_up(text: str, ticks: int) -> None:
    assert load_memory("hbm2", settings={"tCWL": text}).timing_ticks["cwl"] == ticks


def test_clocks_scale_with_the_clock_and_times_do_not() -> None:
    slow = load_memory("hbm2", settings={"clock": "500 MHz", "tCL": "14 ck"})
    assert (slow.timing_ticks["cl"], slow.timing_ns["cl"]) == (14, 28.0)
    assert (slow.timing_ticks["rp"], slow.timing_ns["rp"]) == (7, 14.0)
    assert slow.ns(7) == 14.0 and slow.ticks(13.0) == 7


@pytest.mark.parametrize(
    ("change", "to", "message"),
    [
        ('tCL: "14 ns"', "tCL: 14", "a time with its unit, such as 14 ns or 14 ck, not 14"),
        ('tCL: "14 ns"', 'tCL: "14"', "a time with its unit, such as 14 ns or 14 ck, not '14'"),
        ('tCL: "14 ns"', "tCL: fast", "a time with its unit, such as 14 ns or 14 ck, not 'fast'"),
        ('tCL: "14 ns"', "tCL: true", "a time with its unit"),
        ('tCL: "14 ns"', 'tCL: "14 nz"', "unknown unit 'nz' of a time: did you mean 'ns'"),
        ('tCL: "14 ns"', 'tCL: "-14 ns"', "the time should be 0 or more"),
        ('tCL: "14 ns"', 'tCL: "1e300 ns"', "the time is out of any memory's range"),
        ('tCL: "14 ns"', 'tCL: "1e999 ck"', "the time is out of any memory's range"),
        ('clock: "1 GHz"', 'clock: "1e-300 GHz"', "the frequency is out of any memory's range"),
        ('page: "1 KiB"', 'page: "1e999 MiB"', "the size is out of any memory's range"),
        ('tBURST: "2 ns" ', 'tBURST: "0 ns" ', "the time should be more than 0"),
        ('clock: "1 GHz"', "clock: 1.0", "a frequency with its unit, such as 1 GHz, not 1.0"),
        ('clock: "1 GHz"', 'clock: "0 GHz"', "the frequency should be more than 0"),
        ('page: "1 KiB"', "page: 1024", "a size with its unit, such as 1 KiB or 32 B, not 1024"),
        ('page: "1 KiB"', 'page: "1 KB"', "unknown unit 'KB' of a size: did you mean 'KiB'"),
        ('burst: "32 B"', 'burst: "0.5 B"', "a whole number of bytes"),
        ('burst: "32 B"', 'burst: "0 B"', "the size should be more than 0"),
        ('IDD0: "65 mA"', "IDD0: 65", "a current with its unit, such as 65 mA, not 65"),
        ('vdd: "1.2 V"', 'vdd: "1.2 W"', "unknown unit 'W' of a voltage: one of V, mV"),
    ],
)
def test_quantities_without_a_known_unit_are_refused_with_their_line(
    change: str, to: str, message: str, tmp_path: Path
) -> None:
    path = shipped(change, to, tmp_path)
    with pytest.raises(ConfigError, match=message) as caught:
        load_memory(path)
    assert f"line {line_of(path, to)}, key " in caught.value.where


# Keys


@pytest.mark.parametrize(
    ("change", "to", "message"),
    [
        ("  tRAS:", "  tRSA:", "unknown key 'tRSA': did you mean 'tRAS'"),
        ("  read_queue: 64", "  read_que: 64", "unknown key 'read_que': did you mean 'read_queue'"),
        ("slots: {activate: 2}", "slots: {actvate: 2}", "unknown key 'actvate': did you mean 'activate'"),
        ('  tCL: "14 ns"\n', "", "the key 'tCL' is missing"),
        ("command_bus: split", "command_bus: splitt", "'split' or 'shared', not 'splitt'"),
        ("  read_queue: 64", "  read_queue: 0", "greater than or equal to 1, not 0"),
        ("  channels: 8", "  channels: 0", "greater than or equal to 1, not 0"),
        ("  channels: 8", '  channels: "8"', "a valid integer"),
        ("  read_queue: 64", f"  read_queue: {1 << 64}", "less than or equal to"),
        ("slots: {activate: 2}", f"slots: {{activate: {1 << 64}}}", "less than or equal to"),
        ('  tRP: "14 ns"', '  tRP: "14 ns"\n  tRCD: "9 ns"', "tRCDRD is given twice"),
    ],
)
def test_keys_that_are_unknown_missing_or_mistyped_are_named(
    change: str, to: str, message: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        load_memory(shipped(change, to, tmp_path))
    assert "memory.yaml" in str(caught.value)


def test_an_unknown_memory_gives_the_nearest_name(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="hbm2"):
        load_memory("hmb2")
    with pytest.raises(FileMissingError):
        load_memory(str(tmp_path / "none.yaml"))


# Contradictions


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"tRC": "40 ns"}, r"tRAS \+ tRP is longer than tRC: 48 ns > 40 ns"),
        ({"tRRD_L": "3 ns"}, "tRRD_L is shorter than tRRD_S"),
        ({"tCCD_L": "1 ns"}, "tCCD_L is shorter than tCCD_S"),
        ({"tCCD_S_WR": "9 ns"}, "tCCD_L_WR is shorter than tCCD_S_WR"),
        ({"tWTR_L": "1 ns"}, "tWTR_L is shorter than tWTR_S"),
        ({"tRAS": "13 ns"}, "tRAS is shorter than tRCDRD: 13 ns < 14 ns"),
        ({"tFAW": "3 ns"}, "tFAW is shorter than tRRD_S"),
        ({"tREFI": "390 ns"}, r"tREFI leaves no time between refreshes: 390 ns <= tRFC \+ tRP \+ tRAS = 398 ns"),
        ({"tREFI": "0 ns"}, "the refresh policy all_bank needs tREFI"),
        ({"controller.refresh": "per_bank", "tRFCpb": "0 ns"}, "the refresh policy per_bank needs tRFCpb"),
        ({"controller.write_high": "65"}, "write_high is above write_queue: 65 > 64"),
        ({"controller.write_low": "52"}, "write_low is not below write_high: 52 >= 52"),
        ({"controller.write_high": "12"}, "write_low is not below write_high: 12 >= 12"),
        ({"organisation.rows": "30000"}, "rows is 30000\n.*organisation.rows=30000\n.*a power of two"),
        ({"organisation.channels": "6"}, "channels is 6\n"),
        ({"organisation.page": "3 KiB"}, "page is 3072\n"),
        ({"organisation.page": "16 B"}, "a page of 16 B is smaller than a burst of 32 B"),
    ],
)
def test_contradictions_are_named(settings: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_memory("hbm2", settings=settings)


def test_a_contradiction_in_a_file_has_its_line(tmp_path: Path) -> None:
    path = shipped('tRAS: "34 ns"', 'tRAS: "34 ns"\n  tRC: "40 ns"', tmp_path)
    with pytest.raises(ConfigError, match="longer than tRC") as caught:
        load_memory(path)
    assert caught.value.where == f"{path}, line {line_of(path, 'tRC:')}, key timing.tRC"


def test_contradictions_in_clocks_do_not_come_from_rounding() -> None:
    ticks = load_memory("hbm2", settings={"tRAS": "33.4 ns", "tRP": "13.4 ns", "tRC": "46.8 ns"}).timing_ticks
    assert (ticks["ras"], ticks["rp"], ticks["rc"]) == (34, 14, 48)  # 47 clocks for tRC alone


# Address maps


def test_counts_and_repeated_letters_are_the_same_map() -> None:
    long = "rrrrrrrrrrrrrrr bb_ccccc gg p hhh ooooo"
    assert parse_map(long) == parse_map("r15b2c5g2p1h3o5") == parse_map("r10 rrrrr b2 c2 c3 g2 p h3 o5")
    assert map_text(parse_map(long)) == "r15 b2 c5 g2 p1 h3 o5"


def test_a_field_may_be_in_several_slices() -> None:
    spec = load_memory("hbm2", settings={"address_map": "r10 c3 r5 b2 g2 h1 c2 p h2 o5"})
    expected = [("channel", 2), ("pseudo_channel", 1), ("column", 2), ("channel", 1), ("bank_group", 2), ("bank", 2)]
    assert spec.sliced_map() == [*expected, ("row", 5), ("column", 3), ("row", 10)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("r14 b2 c5 g2 p1 h3 o5", "does not cover the row: it has 14 bits 'r', a count of 32768 needs 15"),
        ("r15 b2 c5 p1 h3 o5", "does not cover the bank group: it has 0 bits 'g', a count of 4 needs 2"),
        ("r15 b2 c5 g2 p1 h3 c1 o5", "covers twice the column: it has 6 bits 'c', a count of 32 needs 5"),
        ("r15 k1 b2 c5 g2 p1 h3 o5", "covers twice the rank: it has 1 bits 'k', a count of 1 needs 0"),
        ("r15 b2 c5 g2 p1 h3 o6", "covers twice the offset: it has 6 bits 'o', a burst of 32 needs 5"),
        ("r15 b2 c5 g2 p1 h3", "does not cover the offset: it has 0 bits 'o'"),
        ("r15 b2 c5 g2 p1 o5 h3", "is not the lowest part"),
        ("r15 b2 c5 g2 p1 o2 h3 o3", "is not the lowest part"),
        ("r15 b2 x5 g2 p1 h3 o5", "unknown field 'x'"),
        ("r15 b2 5 g2 p1 h3 o5 !", "unknown field '!'"),
        ("", "has 0 bits"),
        ("r99 o5", "has 104 bits"),
    ],
)
def test_maps_that_do_not_fit_are_named(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        load_memory("hbm2", settings={"address_map": f'"{text}"'})
    assert "--set address_map=" in caught.value.where


def test_a_bad_map_in_a_file_has_its_line(tmp_path: Path) -> None:
    path = shipped("r15 b2 c5", "r15 b1 c5", tmp_path)
    with pytest.raises(ConfigError, match="does not cover the bank: it has 1 bits 'b'") as caught:
        load_memory(path)
    assert f"line {line_of(path, 'r15 b1')}, key address_map" in caught.value.where


@pytest.mark.parametrize("channels", [1, 2, 4, 16, 64])
def test_the_channel_bits_follow_the_channels(channels: int) -> None:
    by_argument = load_memory("hbm2", channels)
    by_setting = load_memory("hbm2", settings={"organisation.channels": str(channels)})
    assert by_argument == by_setting
    bits = channels.bit_length() - 1
    assert dict(by_argument.sliced_map()).get("channel", 0) == bits
    assert by_argument.peak_gb_per_s == 32 * channels
    assert load_memory("ddr4-3200", channels).sliced_map()[:1] == ([("channel", bits)] if bits else [("bank_group", 2)])


def test_split_channel_bits_shrink_from_the_top() -> None:
    slices = parse_map("h1 r4 h2 c3 o5")
    assert map_text(with_channel_bits(slices, 4)) == "r4 h2 c3 o5"
    assert map_text(with_channel_bits(slices, 2)) == "r4 h1 c3 o5"
    assert map_text(with_channel_bits(slices, 16)) == "h2 r4 h2 c3 o5"


def test_a_given_map_is_kept_with_other_channels() -> None:
    wanted = "r15 b2 c5 h2 g2 p1 o5"
    spec = load_memory("hbm2", settings={"organisation.channels": "4", "address_map": wanted})
    assert spec.address_map == wanted
    with pytest.raises(ConfigError, match="covers twice the channel"):
        load_memory("hbm2", settings={"organisation.channels": "2", "address_map": wanted})


# Settings


def test_settings_reach_every_section() -> None:
    spec = load_memory(
        "hbm2",
        settings={
            "tRCD": "15ns",
            "timing.tRP": "15 ns",
            "turnaround": "3 ck",
            "controller.write_high": "48",
            "controller.slots.activate": "1",
            "controller.delay": "10 ns",
            "admission.depth": "7",
            "clock": "1 GHz",
        },
    )
    ticks, controller = spec.timing_ticks, spec.controller_numbers
    assert (ticks["rcd_read"], ticks["rcd_write"], ticks["rp"], ticks["rc"], ticks["rtw"]) == (15, 15, 15, 49, 14)
    assert (controller["write_high"], controller["act_slots"], controller["delay"]) == (48, 1, 10)
    assert spec.admission_numbers["depth"] == 7


@pytest.mark.parametrize(
    ("alias", "names"),
    [
        ("tRCD", ("rcd_read", "rcd_write")),
        ("tRRD", ("rrd_short", "rrd_long")),
        ("tCCD", ("ccd_short", "ccd_long")),
        ("tWTR", ("wtr_short", "wtr_long")),
    ],
)
def test_aliases_set_both(alias: str, names: tuple[str, str], tmp_path: Path) -> None:
    ticks = load_memory("hbm2", settings={alias: "7 ns"}).timing_ticks
    assert [ticks[name] for name in names] == [7, 7]
    own = load_memory("lpddr4-3200")  # its file uses them
    assert len({own.timing_ticks[name] for name in names}) == 1


def test_a_later_setting_of_one_half_keeps_the_other() -> None:
    ticks = load_memory("ddr4-3200", settings={"tRCDWR": "20 ck"}).timing_ticks
    assert (ticks["rcd_read"], ticks["rcd_write"]) == (22, 20)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("tRCD", "14", "^the value should be a time with its unit, such as 14 ns or 14 ck, not 14\n"),
        ("tRCX", "14 ns", "unknown setting 'tRCX'\n(.|\n)*tRC"),
        ("write_high", "48", "did you mean 'controller.write_high'"),
        ("channels", "4", "did you mean 'organisation.channels'"),
        ("controller.writ_high", "48", "unknown key 'writ_high': did you mean 'write_high'"),
        ("contoller.write_high", "48", "unknown key 'contoller': did you mean 'controller'"),
        ("controller.write_high", "48 ns", "a valid integer, not '48 ns'"),
    ],
)
def test_bad_settings_are_named_as_written(key: str, value: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        load_memory("hbm2", settings={key: value})
    assert f"--set {key}={value}" in str(caught.value)


def test_settings_add_up_and_leave_the_original() -> None:
    base = load_memory("hbm2", 16)
    changed = base.with_settings({"tRP": "20 ns"}).with_settings({"organisation.channels": "4"})
    assert (changed.timing_ticks["rp"], changed.organisation.channels) == (20, 4)
    assert (base.timing_ticks["rp"], base.organisation.channels) == (14, 16)
    assert isinstance(changed, MemorySpec)


def test_without_refresh_its_times_may_be_left_out(tmp_path: Path) -> None:
    text = (STANDARDS / "hbm2.yaml").read_text()
    kept = [line for line in text.splitlines() if not line.strip().startswith(("tRFC", "tREFI", "tRREFD"))]
    path = tmp_path / "quiet.yaml"
    path.write_text("\n".join(kept))
    with pytest.raises(ConfigError, match="needs tRFC"):
        load_memory(str(path))
    assert load_memory(str(path), settings={"controller.refresh": "none"}).controller_numbers["refresh"] == 0
