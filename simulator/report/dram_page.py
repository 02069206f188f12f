"""The report of a replayed trace as one HTML file."""

from __future__ import annotations

import os
from html import escape

from simulator.files import write_atomic
from simulator.memory.result import ReplayResult
from simulator.report.dram_charts import PICTURES
from simulator.report.dram_tables import constants_table, ns_text, parameters_table, replay_tables, summary_line
from simulator.report.page import html_document, table_html
from simulator.report.text import bytes_text, energy, percent, rate, si

__all__ = ["replay_page", "write_replay_html"]


def write_replay_html(result: ReplayResult, path: str | os.PathLike[str]) -> None:
    """Write the report to `path`; an interrupt keeps the old file.

    Raises
    ------
    FileMissingError: the folder of `path` does not exist.
    """
    write_atomic(path, replay_page(result))


def replay_page(result: ReplayResult) -> str:
    """Return the page as text: pictures first, tables beneath, nothing fetched from anywhere."""
    body = [_head(result), *_assumptions(result)]
    for title, draw, caption in PICTURES:
        picture = draw(result)
        if picture:
            said = f"<figcaption>{escape(caption)}</figcaption>"
            body.append(f"<h2>{escape(title)}</h2>\n<figure>{picture}{said}</figure>")
    body.append("<h2>In numbers</h2>")
    body += [table_html(table) for table in replay_tables(result)]
    if result.energy_model is not None:
        body.append(table_html(constants_table(result.memory, result.energy_model, result.constants)))
    parameters = parameters_table(f"Parameters of {result.memory}", result.parameters)
    body.append(f"<details><summary>All parameters of {escape(result.memory)}</summary>")
    body.append(f"{table_html(parameters, with_title=False)}</details>")
    body.append(f"<footer>Result schema {escape(result.schema_version)}. This file needs no network.</footer>")
    return html_document(f"{result.trace} on {result.memory}", body)


def _head(result: ReplayResult) -> str:
    cards = "\n".join(_card(title, facts) for title, facts in _facts(result).items())
    return (
        f"<h1>{escape(result.trace)} on {escape(result.memory)}</h1>\n"
        f'<p class="muted">{escape(result.description)}; {escape(summary_line(result))}</p>\n'
        f'<div class="cards">\n{cards}\n</div>'
    )


def _facts(result: ReplayResult) -> dict[str, dict[str, str]]:
    pj_per_bit = result.energy_pj_per_bit
    return {
        "Bandwidth": {
            "achieved": rate(result.gb_per_s, "B/s"),
            "peak": rate(result.peak_gb_per_s, "B/s"),
            "share of the peak": percent(result.share_of_peak),
            "useful share of it": percent(result.useful_fraction),
            "useful": bytes_text(result.useful_bytes),
            "fetched": bytes_text(result.fetched_bytes),
        },
        "Rows and latency": {
            "row-hit rate": percent(result.row_hit_rate),
            "activates": f"{result.activates:,}",
            "refreshes": f"{result.refreshes:,}",
            "read latency, mean": ns_text(result.read_latency_ns),
            "99 % within": ns_text(result.read_latency_p99_ns),
            "longest": ns_text(result.read_latency_max_ns),
        },
        "Energy": {
            "total": energy(result.energy_pj),
            "lowest constants": energy(result.energy_pj_low),
            "highest constants": energy(result.energy_pj_high),
            "per bit fetched": si(None if pj_per_bit is None else pj_per_bit * 1e-12, "J"),
            "model": result.energy_model or "none",
        },
    }


def _card(title: str, facts: dict[str, str]) -> str:
    items = "".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in facts.items())
    return f'<div class="card"><b>{escape(title)}</b><dl>{items}</dl></div>'


def _assumptions(result: ReplayResult) -> list[str]:
    return [f'<p class="banner assumed">{escape(text)}</p>' for text in result.assumptions]
