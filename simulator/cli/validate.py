"""`simulate validate`: published values beside ours."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from simulator.cli import options
from simulator.cli.progress import Bar

if TYPE_CHECKING:
    from simulator.validation import Validation

__all__ = ["validate"]


def _names() -> list[str]:
    from simulator.validation import shipped_topics

    return [name for topic in shipped_topics() for name in (topic.name, *(target.name for target in topic.targets))]


def validate(
    only: Annotated[
        list[str],
        typer.Option(
            help="A row or a topic by name; repeat it for more.", autocompletion=options.starting_with(_names)
        ),
    ] = [],  # noqa: B006 - typer copies it
    perturb: Annotated[
        bool, typer.Option("--perturb", help="Move each calibrated constant by 10 % and print which rows move.")
    ] = False,
    targets: Annotated[str | None, typer.Option(help="A YAML file of targets instead of the shipped ones.")] = None,
    json: Annotated[str | None, typer.Option(help="Write the rows as JSON; - is stdout, instead of tables.")] = None,
    quiet: options.Quiet = False,
) -> None:
    """Compare published values with ours: definitions, predictions, calibrations, and what nobody published.

    Exit code 1 if a counted row is outside its tolerance and not listed as a known miss with its cause.
    """
    options.writable(json, "--json")
    validation = _validate(only, perturb, targets, quiet)
    from simulator.validation.report import print_validation, to_json

    if json not in (None, "-"):
        from simulator.files import write_atomic

        write_atomic(json, to_json(validation))
    if json == "-":
        typer.echo(to_json(validation), nl=False)
    elif not quiet:
        print_validation(validation, options.console(), perturb)
    if validation.failed:
        raise typer.Exit(1)


def _validate(only: list[str], perturb: bool, targets: str | None, quiet: bool) -> Validation:
    from simulator.validation import load_topic, shipped_topics, validate_targets

    topics = shipped_topics() if targets is None else (load_topic(targets),)
    with Bar("validating", quiet) as bar:
        return validate_targets(topics, only, perturb, bar.step)
