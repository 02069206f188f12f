from __future__ import annotations

import pytest

from simulator.cli.completion import complete_short_form


@pytest.mark.parametrize(
    ("line", "index", "expected"),
    [
        ("simulate ", 1, None),  # all commands
        ("simulate s", 1, None),  # show
        ("simulate show be", 2, None),
        ("simulate --debug be", 2, None),
        ("simulate be", 1, "simulate run be"),
        ("simulate --ar", 1, "simulate run --ar"),
        ("simulate s ", 2, "simulate run s "),  # a model of this name
        ("simulate\nbert-base\n--arch\n", 3, "simulate run bert-base\n--arch\n"),
    ],
)
def test_run_is_put_in_front_of_the_short_form(line: str, index: int, expected: str | None) -> None:
    bash = {"COMP_WORDS": line, "COMP_CWORD": str(index)}
    zsh = {"_TYPER_COMPLETE_ARGS": line}
    for environment in (bash, zsh):
        complete_short_form(("run", "show"), ("--debug",), environment)
    assert bash == {
        "COMP_WORDS": expected or line,
        "COMP_CWORD": str(index if expected is None else index + 1),
    }
    assert zsh == {"_TYPER_COMPLETE_ARGS": expected or line}
