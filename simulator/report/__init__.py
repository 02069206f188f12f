"""What a result looks like: tables on a terminal, CSV, one HTML page."""

from simulator.report.comparison import comparison_table, comparison_tables
from simulator.report.page import Section, html_page, write_html
from simulator.report.tables import DataTable, assumption_line, tables_of
from simulator.report.tabular import csv_text, write_csv

__all__ = [
    "DataTable",
    "Section",
    "assumption_line",
    "comparison_table",
    "comparison_tables",
    "csv_text",
    "html_page",
    "tables_of",
    "write_csv",
    "write_html",
]
