"""Shell completion of the short form: `simulate MODEL --arch sp<TAB>` completes as `simulate run MODEL --arch sp`."""

from __future__ import annotations

import os
from collections.abc import Collection, MutableMapping

__all__ = ["complete_short_form"]


def complete_short_form(
    commands: Collection[str], own: Collection[str], environment: MutableMapping[str, str] = os.environ
) -> None:
    """Put "run" into the command line that the shell asks about, if it is the short form.

    bash hands it over in COMP_WORDS, with the index of the unfinished word in COMP_CWORD, the other shells as typed in
    _TYPER_COMPLETE_ARGS. An unfinished first word is a model where no command starts like it.

    Parameters
    ----------
    commands: names of the commands. own: options of the program itself.
    """
    name = "COMP_WORDS" if "COMP_WORDS" in environment else "_TYPER_COMPLETE_ARGS"
    line = environment.get(name, "")
    program = line.split()[:1]
    rest = line[len(program[0]) :].lstrip() if program else ""
    if not rest:
        return
    first = rest.split()[0]
    finished = rest != first
    known = first in commands or first in own if finished else any(other.startswith(first) for other in commands)
    if known:
        return
    environment[name] = f"{program[0]} run {rest}"
    if name == "COMP_WORDS":
        environment["COMP_CWORD"] = str(int(environment.get("COMP_CWORD", "1")) + 1)
