"""Exported traces and configurations, read back by the rules of the other tools."""

from __future__ import annotations

import ast
import configparser
import itertools
import random
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from command import Simulate

from simulator.errors import CorruptFileError, InvalidValueError, UnknownNameError, UnsupportedError
from simulator.exchange import TOOLS, export_trace, read_bursts
from simulator.memory import MemorySpec, load_memory, standard_names

Place = dict[str, int]
Request = tuple[bool, int, int]  # write, address, bytes


def requests(seed: int, spec: MemorySpec, count: int = 300) -> list[Request]:
    draw = random.Random(seed)
    made = []
    for _ in range(count):
        size = draw.choice((1, 32, 48, 64, 96, 300))
        made.append((draw.random() < 0.3, draw.randrange(spec.capacity_bytes - size), size))
        if draw.random() < 0.3:
            made.append(made[-1])  # something to merge
    return made


def written(path: Path, asked: list[Request]) -> Path:
    path.write_text("".join(f"{'RW'[write]} {address} {size}\n" for write, address, size in asked))
    return path


def cut(asked: list[Request], burst: int, merge: bool = True) -> list[tuple[bool, int]]:
    """What is sent, said a second time: (write, line) of each burst."""
    lines = [(w, line) for w, address, n in asked for line in range(address // burst, (address + n - 1) // burst + 1)]
    return [item for i, item in enumerate(lines) if not (merge and i and item == lines[i - 1])]


def place(spec: MemorySpec, line: int) -> Place:
    """Where a line of the memory lies, by its bit string read from the right, bit by bit."""
    names = {
        "r": "row",
        "k": "rank",
        "s": "stack",
        "b": "bank",
        "g": "group",
        "c": "column",
        "p": "pseudo",
        "h": "channel",
    }
    bits = "".join(letter * int(count or 1) for letter, count in re.findall(r"([a-z])(\d*)", spec.address_map))
    result, taken = dict.fromkeys(names.values(), 0), dict.fromkeys(names.values(), 0)
    for letter in reversed(bits.rstrip("o")):
        name = names[letter]
        result[name] |= (line & 1) << taken[name]
        taken[name] += 1
        line >>= 1
    return result


def test_bursts_are_those_of_the_trace(seed: int, tmp_path: Path) -> None:
    for memory, merge in itertools.product(("hbm2", "ddr4-3200"), (True, False)):
        spec = load_memory(memory)
        asked = requests(seed, spec)
        path = written(tmp_path / "t", asked)
        burst = spec.organisation.burst_bytes
        got = [
            (bool(write), int(address) // burst)
            for block in read_bursts(spec, path, merge)
            for write, address in zip(block.writes, block.addresses, strict=True)
        ]
        assert got == cut(asked, burst, merge)


def test_a_long_request_comes_in_blocks(tmp_path: Path) -> None:
    spec = load_memory("hbm2")
    path = written(tmp_path / "t", [(False, 0, 1 << 32)])
    blocks = read_bursts(spec, path)
    first = next(blocks)
    assert len(first.addresses) <= 1 << 16
    assert np.array_equal(first.addresses[:3], [0, 32, 64])
    assert next(blocks).addresses[0] == first.addresses[-1] + 32


def dramsim3_places(folder: Path) -> Iterator[tuple[bool, Place]]:
    """Read the exported trace as DRAMsim3 does: sizes from the .ini, the last field of the mapping lowest."""
    ini = configparser.ConfigParser()
    ini.optionxform = str  # type: ignore[assignment, method-assign]
    assert ini.read(folder / "memory.ini")
    shape = {key: value for section in ini.sections() for key, value in ini[section].items()}
    n = {key: int(value) for key, value in shape.items() if value.isdigit()}
    columns = n["columns"] * (2 if shape["protocol"] == "HBM" else 1)
    page = columns * n["device_width"] // 8
    rank = page * (n["rows"] // 1024) // 1024 * n["bankgroups"] * n["banks_per_group"]
    counts = {"ch": n["channels"], "ra": n["channel_size"] // rank, "bg": n["bankgroups"], "ba": n["banks_per_group"]}
    counts |= {"ro": n["rows"], "co": columns // n["BL"]}
    fields = re.findall("..", shape["address_mapping"])
    assert sorted(fields) == sorted(counts)
    for line in (folder / "requests.trace").read_text().splitlines():
        address, kind, cycle = line.split()
        rest = int(address, 16) // (n["bus_width"] // 8 * n["BL"])
        found = {}
        for field in reversed(fields):
            rest, found[field] = divmod(rest, counts[field])
        assert rest == 0
        assert cycle == "0"
        yield kind == "WRITE", found


def ramulator_places(folder: Path) -> Iterator[tuple[bool, Place]]:
    """Read the exported trace as Ramulator's LoadStoreTrace, CacheLineInterleave and RoBaRaCoCh do."""
    text = (folder / "run.py").read_text()
    values = {node.targets[0].id: node.value for node in ast.parse(text).body if isinstance(node, ast.Assign)}  # type: ignore[attr-defined]
    levels = ast.literal_eval(values["LEVELS"])
    channels = int(re.findall(r"range\((\d+)\)", text)[0])
    prefetch = {"HBM2": 4, "HBM3": 8, "DDR4": 8}.get(re.findall(r"Standard = ramulator\.dram\.(\w+)", text)[0], 16)
    order = [("column", levels["column"] // prefetch)]
    order += [
        (name, levels[name]) for name in ("pseudochannel", "rank", "sid", "bankgroup", "bank", "row") if name in levels
    ]
    for line in (folder / "requests.trace").read_text().splitlines():
        kind, address = line.split()
        rest = int(address, 16) // (prefetch * levels["channel_width"] // 8)
        rest, channel = divmod(rest, channels)
        found = {"channel": channel}
        for name, count in order:
            rest, found[name] = divmod(rest, count)
        assert rest == 0
        yield kind == "ST", found


@pytest.mark.parametrize("memory", [*standard_names(), "split"])
def test_dramsim3_finds_every_burst_in_its_place(seed: int, tmp_path: Path, memory: str) -> None:
    settings = {"address_map": "r14 c2 b2 r1 g2 p1 c3 h3 o5"} if memory == "split" else {}
    spec = load_memory("hbm2" if memory == "split" else memory, settings=settings)
    asked = requests(seed, spec)
    done = export_trace(spec, written(tmp_path / "t", asked), "dramsim3", tmp_path / "out")
    want = cut(asked, spec.organisation.burst_bytes)
    assert done.count == len(want)
    pseudo, groups = spec.organisation.pseudo_channels, spec.organisation.bank_groups
    seen: dict[int, tuple[int, int]] = {}
    for (write, line), (got_write, got) in zip(want, dramsim3_places(tmp_path / "out"), strict=True):
        at = place(spec, line)
        assert got_write == write
        assert (got["ra"], got["ba"], got["ro"], got["co"]) == (at["rank"], at["bank"], at["row"], at["column"])
        assert got["bg"] == at["stack"] * groups + at["group"]
        assert seen.setdefault(got["ch"], (at["channel"], at["pseudo"])) == (at["channel"], at["pseudo"])
    assert len(set(seen.values())) == len(seen) <= spec.organisation.channels * pseudo


@pytest.mark.parametrize("memory", [name for name in standard_names() if not name.startswith("lpddr4")])
def test_ramulator_finds_every_burst_in_its_place(seed: int, tmp_path: Path, memory: str) -> None:
    spec = load_memory(memory)
    asked = requests(seed, spec)
    export_trace(spec, written(tmp_path / "t", asked), "ramulator2", tmp_path / "out")
    want = cut(asked, spec.organisation.burst_bytes)
    names = {"channel": "channel", "column": "column", "pseudochannel": "pseudo", "rank": "rank", "sid": "stack"}
    names |= {"bankgroup": "group", "bank": "bank", "row": "row"}
    for (write, line), (got_write, got) in zip(want, ramulator_places(tmp_path / "out"), strict=True):
        at = place(spec, line)
        assert got_write == write
        assert {names[name]: value for name, value in got.items()} == {names[name]: at[names[name]] for name in got}


# The keys of DRAMsim3's configs/HBM2_8Gb_x128.ini with PER_BANK queues that its source uses, and two defaults of it.
HBM2_8GB_X128 = (
    "protocol=HBM bankgroups=4 banks_per_group=4 rows=32768 columns=64 device_width=128 BL=4",
    "tCK=1 CL=14 CWL=4 tRCDRD=14 tRCDWR=14 tRP=14 tRAS=34 tRFC=260 tREFI=3900 tRRD_S=4 tRRD_L=6 tWTR_S=6 tWTR_L=8",
    "tFAW=30 tWR=16 tCCD_S=1 tCCD_L=2 tRTP=5 tRTRS=2",
    "VDD=1.2 IDD0=65 IDD2N=40 IDD3N=55 IDD4W=500 IDD4R=390 IDD5AB=250",
    "channel_size=1024 channels=8 bus_width=128 queue_structure=PER_BANK row_buf_policy=OPEN_PAGE cmd_queue_size=8",
    "trans_queue_size=32 unified_queue=False",
)


def test_the_preset_gives_the_file_that_it_comes_from() -> None:
    spec = load_memory("hbm2-dramsim3")
    text = TOOLS["dramsim3"].configuration(spec)
    given = dict(line.split(" = ") for line in text.splitlines() if " = " in line)
    want = dict(item.split("=") for item in " ".join(HBM2_8GB_X128).split())
    assert {key: given[key] for key in want} == want
    assert [field for field in re.findall("..", given["address_mapping"]) if field != "ra"] == [
        "ro",
        "bg",
        "ba",
        "ch",
        "co",
    ]
    assert TOOLS["dramsim3"].differences(spec) == []


def test_the_script_gives_the_numbers_of_the_presets() -> None:
    for memory, want in (
        (
            "hbm2-ramulator",
            {"nCL": 14, "nRCDWR": 12, "nRTPL": 5, "nFAW": 15, "nRFC": 350, "nREFI": 3900, "tCK_ps": 1000},
        ),
        ("hbm3", {"nCL": 20, "nRC": 72, "nCCDR": 3, "nRTW": 20, "nREFI": 6240, "nREFIpb": 195, "tCK_ps": 625}),
        ("ddr5-4800", {"nBL": 8, "nCCDL_WR": 48, "nPPD": 2, "nCS": 2}),
    ):
        text = TOOLS["ramulator2"].configuration(load_memory(memory))
        values = {node.targets[0].id: node.value for node in ast.parse(text).body if isinstance(node, ast.Assign)}  # type: ignore[attr-defined]
        timings = ast.literal_eval(values["TIMINGS"])
        assert {name: timings[name] for name in want} == want
        compile(text, "run.py", "exec")
    clocks = load_memory("hbm3").with_settings({"tRTP": "19 ck"})
    assert '"nRTP": 9.5' in TOOLS["ramulator2"].configuration(clocks), "half a CK is one clock of ours"


def test_what_cannot_be_said_is_named(simulate: Simulate, tmp_path: Path) -> None:
    trace = written(tmp_path / "t", [(False, 0, 64)])
    spec = load_memory("lpddr4-3200")
    with pytest.raises(UnsupportedError, match="4 \\(activate\\)"):
        export_trace(spec, trace, "ramulator2", tmp_path / "out")
    with pytest.raises(UnsupportedError, match="burst"):
        export_trace(load_memory("hbm2", settings={"tBURST": "3 ns"}), trace, "dramsim3", tmp_path / "out")
    with pytest.raises(UnknownNameError, match="ramulator"):
        export_trace(spec, trace, "ramulator", tmp_path / "out")
    assert not (tmp_path / "out").exists()
    notes = export_trace(load_memory("hbm3"), trace, "dramsim3", tmp_path / "out").differences
    page = (tmp_path / "out" / "README.md").read_text()
    assert any("Stack ids" in note for note in notes)
    assert all(note in page for note in notes)
    assert "dramsim3main memory.ini" in page
    code, out, _ = simulate("export", trace, "--to", "dramsim3", "-o", tmp_path / "out", "--memory", "hbm3")
    assert code == 0
    assert all(note in out for note in notes)


def test_cycles_are_kept_where_the_format_has_them(tmp_path: Path) -> None:
    trace = tmp_path / "t"
    trace.write_text("7 R 0 64\n9 W 64 64\n")
    export_trace(load_memory("ddr4-3200"), trace, "dramsim3", tmp_path / "out")
    assert (tmp_path / "out" / "requests.trace").read_text() == "0x0 READ 7\n0x40 WRITE 9\n"


def test_a_bad_trace_leaves_the_old_one(simulate: Simulate, tmp_path: Path) -> None:
    spec, trace, out = load_memory("hbm2"), tmp_path / "t", tmp_path / "out"
    export_trace(spec, written(trace, [(False, 0, 64)]), "dramsim3", out)
    before = (out / "requests.trace").read_text()
    trace.write_text("R 0 64\nR 64\n")
    with pytest.raises(CorruptFileError, match="line 2"):
        export_trace(spec, trace, "dramsim3", out)
    assert (out / "requests.trace").read_text() == before
    assert sorted(path.name for path in out.iterdir()) == ["README.md", "memory.ini", "requests.trace"]
    with pytest.raises(InvalidValueError, match="file of this name"):
        export_trace(spec, trace, "dramsim3", trace)
    code, _, err = simulate("export", trace, "--to", "dramsim4", "-o", out)
    assert (code, "did you mean 'dramsim3'" in err) == (2, True)
    code, _, err = simulate("export", tmp_path / "absent", "--to", "dramsim3", "-o", out)
    assert (code, "does not exist" in err) == (2, True)
    code, _, err = simulate("export", "--to", "dramsim3", "-o", out)
    assert (code, "no trace" in err) == (2, True)
    code, _, err = simulate("export", trace, "--to", "dramsim3", "-o", tmp_path / "no" / "such")
    assert (code, "does not exist" in err) == (2, True)
