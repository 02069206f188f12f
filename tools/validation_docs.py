"""Write what `simulate validate` finds into docs/validation.md, between its two markers."""

from __future__ import annotations

from pathlib import Path

from simulator.validation import shipped_topics, validate_targets
from simulator.validation.report import markdown

BEGIN, END = "<!-- simulate validate: begin -->\n", "<!-- simulate validate: end -->\n"


def main() -> None:
    page = Path(__file__).parent.parent / "docs" / "validation.md"
    text = page.read_text(encoding="utf-8")
    before, after = text.split(BEGIN)[0], text.split(END)[1]
    page.write_text(before + BEGIN + "\n" + markdown(validate_targets(shipped_topics())) + "\n" + END + after, "utf-8")


if __name__ == "__main__":
    main()
