"""Reports: numbers as text, the tables, CSV, pictures and the HTML page."""

from __future__ import annotations

import csv
import dataclasses
import io
import random
import re
import xml.etree.ElementTree as ET
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from sample_result import make_result

from simulator.errors import FileMissingError, InvalidValueError
from simulator.report import (
    DataTable,
    Section,
    charts,
    comparison_table,
    csv_text,
    html_page,
    tables_of,
    unit_charts,
    write_html,
)
from simulator.report.svg import Linear, Log
from simulator.report.tables import distinct
from simulator.report.terminal import print_results
from simulator.report.text import bytes_text, count, energy, percent, ratio, seconds, si
from simulator.result import EnergyItem, InputField, Result, StreamResult, Timeline, TimelineSpan, UnitResult


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        (seconds(1.234e-6), "1.23 µs"),
        (seconds(999.6e-9), "1.00 µs"),
        (seconds(1e-7), "100 ns"),
        (seconds(0), "0 s"),
        (seconds(None), "–"),
        (energy(1e6), "1.00 µJ"),
        (bytes_text(999), "999 B"),
        (bytes_text(1_500_000), "1.50 MB"),
        (count(99_999), "99,999"),
        (count(123_456), "123 k"),
        (percent(0.1234), "12.3 %"),
        (percent(1.0), "100 %"),
        (percent(0.0001), "<0.1 %"),
        (percent(0.0), "0 %"),
        (ratio(2.345), "2.35x"),
        (ratio(0.00284), "0.0028x"),
    ],
)
def test_numbers_as_text(shown: str, expected: str) -> None:
    assert shown == expected


@given(st.floats(1e-14, 1e20))
def test_three_digits_are_right(value: float) -> None:
    digits, prefix = si(value, "x").split(" ")
    factor = dict(zip("fpnµmkMGTPE", (-15, -12, -9, -6, -3, 3, 6, 9, 12, 15, 18), strict=True)).get(prefix[:-1], 0)
    assert float(digits) * 10.0**factor == pytest.approx(value, rel=0.0051)


def test_scales() -> None:
    linear = Linear(10, 100, 0)
    assert (linear(0), linear(10), linear(5)) == (100, 0, 50)
    assert linear.ticks() == [0, 2, 4, 6, 8, 10]
    assert Linear(0, 0, 1).ticks() == [0]
    log = Log.around([3, 250], 0, 100)
    assert (log.low, log.high, log(1), log(1000)) == (1, 1000, 0, 100)
    assert log.ticks() == [1, 10, 100, 1000]


def named(result: Result, title: str) -> DataTable:
    return next(table for table in tables_of(result) if table.title == title)


def test_tables_have_every_number() -> None:
    result = make_result()
    scopes = named(result, "Scopes")
    assert [row[0] for row in scopes.rows] == ["attention", "linear", "other"]
    assert "linear and other not modelled" in scopes.note
    assert "total" not in {row[0] for row in scopes.rows}
    assert named(result, "Units").rows[0][:2] == ("qk", "40.0 %")
    assert named(result, "DRAM traffic").rows[0][:5] == ("K high bits", "read", "3.00 kB", "4.00 kB", "75.0 %")
    assert [row[0] for row in named(result, "Energy").rows] == ["multipliers", "dram activate", "total"]
    assert named(result, "Not modelled").rows[0][:4] == ("query", "2", "55,000", "55.0 %")
    assert [row[2] for row in named(result, "Inputs").rows] == ["assumed", "measured"]
    for table in tables_of(result):
        assert {len(row) for row in table.rows} == {len(table.columns)} == {len(table.alignment())}


def test_total_is_shown_only_where_it_is_in_the_result() -> None:
    base = make_result()
    host = dataclasses.replace(base.scopes["linear"], modelled_by="host", time_s=1e-6)
    scopes = {**base.scopes, "linear": host, "other": host, "total": dataclasses.replace(host, time_s=3e-6)}
    table = named(make_result(scopes=scopes), "Scopes")
    assert [row[0] for row in table.rows] == ["attention", "linear", "other", "total"]
    assert table.note == ""


def scoped(design: str, **changes: object) -> Result:
    base = make_result()
    scope = dataclasses.replace(base.scopes["attention"], **changes)  # type: ignore[arg-type]
    return make_result(design=design, scopes={**base.scopes, "attention": scope})


def test_factors_stand_only_between_equal_scopes() -> None:
    base = make_result()
    assert comparison_table([base]) is None
    slower = scoped("slow", time_s=5e-6, energy_pj=3e6)
    table = comparison_table([base, slower])
    assert table is not None
    assert [(row[0], row[1], row[3], row[6]) for row in table.rows] == [
        ("attention", "spatten", "1.00x", "1.00x"),
        ("attention", "slow", "2.50x", "2.00x"),
    ]
    for unequal in (
        scoped("other work", operations_dense=1),
        scoped("on a host", modelled_by="host", cycles=None),
        dataclasses.replace(slower, model=dataclasses.replace(slower.model, layers=3)),
    ):
        table = comparison_table([base, unequal])
        assert table is not None
        assert table.rows[1][3] == "–"


def test_equal_designs_get_names_that_differ() -> None:
    off = make_result(schedule="half, pruning off")
    other = make_result(design="b", schedule="half, pruning off")

    def names(*results: Result) -> list[str]:
        return [result.design for result in distinct(results)]

    assert names(make_result(), off, other) == ["spatten", "spatten (pruning off)", "b"]
    assert names(make_result(), make_result(schedule="none")) == ["spatten (half)", "spatten (none)"]
    assert names(make_result(), make_result()) == ["spatten (half)", "spatten (half) #2"]
    assert names(off, off) == ["spatten", "spatten #2"]
    table = comparison_table([make_result(), off])
    assert table is not None
    assert [row[1] for row in table.rows] == ["spatten", "spatten (pruning off)"]
    assert "spatten (pruning off) in numbers" in html_page([make_result(), off])
    assert [result.design for result in distinct([make_result()])] == ["spatten"]


def printed(results: list[Result], details: bool = False) -> str:
    stream = io.StringIO()
    print_results(results, Console(file=stream, width=200), details)
    return stream.getvalue()


def test_the_first_line_says_what_is_assumed() -> None:
    assert printed([make_result()]).startswith("ASSUMED: tokens by schedule half")
    published = make_result(inputs=(InputField("workload.heads", 1, "published", "a paper"),))
    assert printed([published]).startswith("PUBLISHED: heads by schedule half")
    measured = make_result(inputs=(InputField("workload.tokens", 1, "measured", "run"),), schedule="measured run")
    assert printed([measured]).startswith("MEASURED")
    kinds = ("tokens", "measured"), ("bits", "assumed")
    mixed = make_result(inputs=tuple(InputField(f"workload.{name}", 1, kind, "run") for name, kind in kinds))
    assert printed([mixed]).startswith("ASSUMED: bit widths (schedule: half); MEASURED: tokens")


def test_terminal_shows_markup_as_it_is_and_cuts_nothing() -> None:
    result = make_result(design="[bold]x", design_description="d" * 300, notes=("a [red]note[/red]",))
    text = printed([result], details=True)
    assert "[bold]x" in text
    assert "d" * 300 in text
    assert "a [red]note[/red]" in text
    assert "Layers" in text
    assert "Layers" not in printed([result])


def test_csv_holds_every_field_in_base_units() -> None:
    result = make_result()
    rows = list(csv.DictReader(io.StringIO(csv_text([result, make_result(design="two")]))))
    assert {row["design"] for row in rows} == {"spatten", "two"}
    table = {(row["section"], row["name"], row["metric"]): row["value"] for row in rows if row["design"] == "spatten"}
    assert float(table["scopes", "attention", "time_s"]) == 2e-6
    assert table["scopes", "linear", "time_s"] == ""
    assert float(table["energy", "multipliers", "energy_pj"]) == 1e6
    assert int(table["layers", "1 attention", "cycles"]) == 1000
    assert table["not_modelled", "query", "reason"] == "runs attention only"
    assert table["inputs", "tokens", "kind"] == "assumed"


class Page(HTMLParser):
    """Collects what could be fetched and checks that tags nest."""

    void = frozenset(("meta", "line", "rect", "circle", "path"))

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.addresses: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href", "xlink:href", "data")]
        assert tag not in ("script", "link", "iframe", "img", "object", "embed")
        if tag not in ("meta",):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href")]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def roofed(**changes: object) -> Result:
    return make_result(peak_gops=2048.0, peak_gbps=512.0, **changes)


def test_html_is_one_file_that_fetches_nothing() -> None:
    results = [roofed(), scoped("slow", time_s=1e-5)]
    html = html_page(results, [Section("Real runs", ("<b>text</b>",), (DataTable("T", ("a", "b"), (("x", "1"),)),))])
    page = Page()
    page.feed(html)
    assert page.open == []
    assert page.addresses == []
    assert not re.search(r"https?://|url\(|@import", html)
    assert "<b>text</b>" in page.text, "text of the caller is escaped"
    for said in (
        "ASSUMED",
        "Real runs",
        "Comparison",
        "Tokens kept per layer",
        "Roofline",
        "a table",
        "runs attention",
    ):
        assert said in page.text
    assert html.index("Real runs") < html.index("Tokens kept")
    assert html.count("<svg") == 8
    assert "roofline of the attention" not in html_page([make_result()]), "no roof, no roofline"


def test_hostile_names_are_escaped() -> None:
    bad = '<script>alert("1")</script>'
    result = roofed(
        design=bad,
        workload=bad,
        schedule=bad,
        notes=(bad,),
        energy={bad: EnergyItem(1.0, "dram", bad, "published")},
        streams={bad: StreamResult(1, 1, 1, 1, None, 1.0, 0.1, False)},
    )
    html = html_page([result], title=bad)
    assert "<script" not in html
    Page().feed(html)


def test_pictures_draw_the_numbers() -> None:
    result = roofed()
    by_name = {}
    for bar in ET.fromstring(charts.energy_chart([result])).iter("rect"):
        title = bar.findtext("title")
        if title:
            by_name[title.split(", ")[1].split(":")[0]] = float(bar.get("width", 0))
    assert by_name["multipliers"] == pytest.approx(2 * by_name["dram activate"], rel=0.01)
    tokens = charts.tokens_chart([result])
    assert "layer 1, kept on spatten: 6" in tokens
    assert "layer 1, before pruning: 10" in tokens
    assert "20.0 Gop/s, 1.0 % of attainable" in charts.roofline([result])  # 40,000 operations in 2 µs; roof 2048
    assert "75.0 %" not in charts.bytes_chart([result])
    assert "3.00 kB of 4.00 kB" in charts.bytes_chart([result])
    assert "40.0 %" in unit_charts.units_chart([result])
    assert "1.00 µs" in charts.time_chart([result])


def timeline(draw: random.Random) -> Timeline:
    """Two units that worked at times."""
    cycles = draw.randint(1, 5000)
    end = draw.randint(1, cycles)
    starts = [(unit, draw.randrange(end)) for unit in ("qk", "pv") for _ in range(9)]
    spans = tuple(TimelineSpan(unit, start, draw.randint(start, cycles), "q") for unit, start in starts)
    busy = {unit: tuple(draw.choice([0.0, 0.5, 1.0]) for _ in range(10)) for unit in ("qk", "pv")}
    return Timeline(0, 0, "summarise", 0, cycles, cycles / 10, busy, end, spans)


def test_stalls_and_latencies_are_shown() -> None:
    units = {"qk": UnitResult(800, 0.4, 30_000, 3e5, 500, 200, 500), "old": UnitResult(500, 0.25, 1, 0.0)}
    stream = StreamResult(3_000, 4_000, 125, 9, 0.8, 2.0, 0.004, False, (), 51.5, 40.0, 300.0, 412.0)
    result = make_result(units=units, streams={"K": stream, "out": dataclasses.replace(stream, read_latency_ns=None)})
    assert named(result, "Units").rows[0][:6] == ("qk", "40.0 %", "25.0 %", "10.0 %", "25.0 %", "800")
    assert named(result, "Units").rows[1][2:5] == ("–", "–", "–")
    assert named(result, "Read latency").rows == (("K", "51.5 ns", "40.0 ns", "300 ns", "412 ns"),)
    widths = {}
    for bar in ET.fromstring(unit_charts.units_chart([result])).iter("rect"):
        widths[bar.findtext("title")] = float(bar.get("width", 0))
    assert widths["qk, starved: 25.0 %"] == pytest.approx(2.5 * widths["qk, blocked: 10.0 %"], abs=0.2)
    assert widths["old, busy: 25.0 %"] == pytest.approx(widths["qk, starved: 25.0 %"])
    layer = dataclasses.replace(result.layers[0], bottleneck="softmax")
    assert named(make_result(layers=(layer,)), "Layers").rows[0][-1] == "softmax"


def test_the_timeline_shows_each_item_and_the_busy_shares() -> None:
    spans = (TimelineSpan("qk", 0, 40, "head 0, query 0"), TimelineSpan("pv", 50, 90, ""))
    busy = {"qk": (1.0, 0.5, 0.0, 0.0), "pv": (0.0, 0.0, 0.8, 0.8)}
    result = make_result(timeline=Timeline(3, 0, "generate", 2, 100, 25.0, busy, 60, spans))
    assert unit_charts.timeline_chart([make_result()]) == unit_charts.timeline_excerpt([make_result()]) == ""
    overview, excerpt = unit_charts.timeline_chart([result]), unit_charts.timeline_excerpt([result])
    assert "layer 3, generate step 2: 100 cycles" in overview
    assert "qk, cycles 25 to 50: 50.0 % busy" in overview
    assert "pv, cycles 50 to 100: 80.0 % busy" in overview
    assert "qk: head 0, query 0, cycles 0 to 40" in excerpt
    assert "pv: busy, cycles 50 to 90" in excerpt
    html = html_page([result])
    assert html.count("<svg") == 8
    assert "The start of the longest op" in html


def test_pictures_stay_inside_their_frame(seed: int) -> None:
    draw = random.Random(seed)
    layers = tuple(
        dataclasses.replace(make_result().layers[0], layer=i, time_s=draw.random(), tokens_mean=draw.random() * 9)
        for i in range(draw.randint(1, 60))
    )
    energy_items = {
        f"part {i}": EnergyItem(draw.random(), "sram", "s", "published") for i in range(draw.randint(1, 20))
    }
    results = [
        roofed(design=f"design {i}", layers=layers, energy=energy_items, timeline=timeline(draw))
        for i in range(draw.randint(1, 4))
    ]
    pictures = (
        charts.tokens_chart,
        charts.heads_chart,
        charts.energy_chart,
        charts.roofline,
        charts.bytes_chart,
        unit_charts.units_chart,
        unit_charts.timeline_chart,
        unit_charts.timeline_excerpt,
        charts.time_chart,
    )
    for picture in pictures:
        root = ET.fromstring(picture(results))
        width, height = (float(value) for value in root.get("viewBox", "").split()[2:])
        for box in root.iter("rect"):
            x, y, w, h = (float(box.get(name, 0)) for name in ("x", "y", "width", "height"))
            assert -0.5 <= x <= x + w <= width + 0.5
            assert -0.5 <= y <= y + h <= height + 0.5
        for text in root.iter("text"):
            assert 0 <= float(text.get("x", 0)) <= width
            assert 0 <= float(text.get("y", 0)) <= height


def test_energy_and_bytes_compare_only_scopes_that_all_designs_ran() -> None:
    both = EnergyItem(3e6, "dram", "s", "published", by_scope={"attention": 1e6, "linear": 2e6})
    base = make_result()
    linear = dataclasses.replace(base.scopes["linear"], modelled_by="design")
    streams = {
        "K": StreamResult(1000, 1000, 1, 1, None, 1.0, 0.1, False, ("attention",)),
        "weight": StreamResult(5000, 5000, 1, 1, None, 1.0, 0.1, False, ("linear",)),
    }
    whole = make_result(
        design="array", energy={"dram": both}, streams=streams, scopes={**base.scopes, "linear": linear}
    )
    alone, together = charts.energy_chart([whole]), charts.energy_chart([whole, base])
    assert "3.00 µJ" in alone
    assert "3.00 µJ" not in together
    assert "1.00 µJ" in together
    assert "weight" in charts.bytes_chart([whole])
    assert "weight" not in charts.bytes_chart([whole, base])


def test_bad_calls_are_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidValueError, match="at least one"):
        html_page([])
    with pytest.raises(FileMissingError, match="nowhere"):
        write_html([make_result()], tmp_path / "nowhere" / "r.html")
