"""The page and the pictures of a replayed trace."""

from __future__ import annotations

import random
import re
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from test_report import Page

from simulator.errors import FileMissingError
from simulator.memory import load_memory
from simulator.memory.replay import replay_trace
from simulator.memory.result import ReplayResult, make_result
from simulator.report import dram_charts
from simulator.report.dram_page import replay_page, write_replay_html
from simulator.report.dram_tables import replay_tables


def replayed(text: str, memory: str = "hbm2", name: str = "t.trace") -> ReplayResult:
    spec = load_memory(memory)
    return make_result(replay_trace(spec, [text.encode()]), spec, name)


def text_of(seed: int, lines: int) -> str:
    draw = random.Random(seed)
    made = []
    for _ in range(lines):
        made.append(f"{draw.choice('RW')} {draw.randrange(1 << 20) * 32} {draw.randrange(1, 200)} s{draw.randrange(3)}")
    return "\n".join(made) + "\n"


def test_the_page_is_one_file_that_fetches_nothing(seed: int) -> None:
    result = replayed(text_of(seed, 500))
    html = replay_page(result)
    page = Page()
    page.feed(html)
    assert page.open == []
    assert page.addresses == []
    assert html.count("<svg") == len(dram_charts.PICTURES)
    for title, _, caption in dram_charts.PICTURES:
        assert title in page.text
        assert caption in page.text
    for said in ("t.trace on hbm2", "row hit: a burst", "timing.tRCDRD", "O'Connor", "address_map", "s0", "e_act"):
        assert said in page.text
    for key, value in result.parameters.items():
        assert f"{key}{value}" in page.text, "every parameter of the memory stands there"


def test_hostile_labels_and_names_are_escaped() -> None:
    bad = "<script>alert(1)</script>"
    result = replayed(f'R 0 64 "{bad}"\n', name=bad)
    assert list(result.streams) == [bad]
    html = replay_page(result)
    assert "<script" not in html
    Page().feed(html)


def boxes(svg: str) -> list[tuple[dict[str, float], str]]:
    found = []
    for box in ET.fromstring(svg).iter("rect"):
        size = {name: float(box.get(name, 0)) for name in ("x", "y", "width", "height")}
        found.append((size, box.findtext("title") or ""))
    return found


@pytest.mark.parametrize("memory", ["hbm2", "hbm3", "ddr4-3200", "gddr6-14"])
def test_pictures_stay_inside_their_frame(seed: int, memory: str) -> None:
    result = replayed(text_of(seed, random.Random(seed).choice((0, 1, 700))), memory)
    for _, draw, _ in dram_charts.PICTURES:
        svg = draw(result)
        if not svg:
            continue
        root = ET.fromstring(svg)
        width, height = (float(value) for value in root.get("viewBox", "").split()[2:])
        for size, _ in boxes(svg):
            assert -0.5 <= size["x"] <= size["x"] + size["width"] <= width + 0.5
            assert -0.5 <= size["y"] <= size["y"] + size["height"] <= height + 0.5
        shapes = [shape.get("points", "") for shape in root.iter("polygon")]
        shapes += [re.sub("[ML]", "", path.get("d", "")) for path in root.iter("path")]
        for x, y in (point.split(",") for shape in shapes for point in shape.split()):
            assert -0.5 <= float(x) <= width + 0.5
            assert -0.5 <= float(y) <= height + 0.5
        for text in root.iter("text"):
            assert 0 <= float(text.get("x", 0)) <= width
            assert 0 <= float(text.get("y", 0)) <= height


def test_the_bank_map_draws_every_bank(seed: int) -> None:
    result = replayed(text_of(seed, 300))
    titles = [title for _, title in boxes(dram_charts.banks_chart(result)) if title]
    assert len(titles) == 2 * len(result.channels) * 32
    for channel, row in enumerate(result.channels):
        for bank, bursts in enumerate(row.bank_bursts):
            assert f"channel {channel}, bank {bank}: {bursts:,} bursts" in titles
            assert f"channel {channel}, bank {bank}: {row.bank_activates[bank]:,} activations" in titles


def test_heights_are_the_numbers() -> None:
    text = "".join(f"R {i * 32} 32\n" for i in range(64)) + "".join(f"R {i * 256} 32\n" for i in range(64, 128))
    result = replayed(text)
    bars = {title.split(":")[0]: size["height"] for size, title in boxes(dram_charts.channels_chart(result)) if title}
    bursts = [channel.bursts for channel in result.channels]
    assert bursts[0] > max(bursts[1:]), "the second half is on channel 0 alone"
    for channel, count in enumerate(bursts):
        assert bars[f"channel {channel}"] == pytest.approx(bars["channel 0"] * count / bursts[0], abs=0.11)
    parts = {
        title.split(":")[0]: size["width"] for size, title in boxes(dram_charts.energy_parts_chart(result)) if title
    }
    energy = {name.replace("_", " "): part.energy_pj for name, part in result.energy.items()}
    assert parts["movement"] / parts["io"] == pytest.approx(energy["movement"] / energy["io"], rel=0.02)


def area_of(points: str) -> float:
    corners = [tuple(map(float, point.split(","))) for point in points.split()]
    around = zip(corners, corners[1:] + corners[:1], strict=True)
    return abs(sum(x1 * y2 - x2 * y1 for (x1, y1), (x2, y2) in around)) / 2


def test_the_area_under_the_bandwidth_is_the_bytes() -> None:
    result = replayed("".join(f"{'RW'[i % 4 == 3]} {i * 32} 32\n" for i in range(20_000)))
    svg = dram_charts.bandwidth_chart(result)
    writes, reads = (area_of(shape.get("points", "")) for shape in ET.fromstring(svg).iter("polygon"))
    assert reads / writes == pytest.approx(3, rel=0.01)
    assert "peak 256 GB/s" in svg


def test_tables_have_a_row_for_each_stream() -> None:
    result = replayed("R 0 64 K\nR 4096 96 V\nW 8192 32\n")
    totals, streams, latency, energy = replay_tables(result)
    assert [row[0] for row in streams.rows] == ["K", "V", "write"]
    assert [row[0] for row in latency.rows] == ["K", "V"], "a write has no read latency"
    assert streams.rows[1][2:4] == ("96 B", "96 B")
    assert energy.rows[-1][0] == "total"
    for table in (totals, streams, latency, energy):
        assert {len(row) for row in table.rows} == {len(table.columns)} == {len(table.alignment())}


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileMissingError, match="nowhere"):
        write_replay_html(replayed("R 0 64\n"), tmp_path / "nowhere" / "r.html")
