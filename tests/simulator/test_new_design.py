"""docs/new_design.md is followed to the letter, in a process that finds its package; and what `simulate new` makes."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from command import Simulate

PAGE = Path(__file__).parents[2] / "docs" / "new_design.md"


def files_of_the_page() -> dict[str, str]:
    """Every code block that has a file's name above it."""
    blocks = re.findall(r"^`([\w./]+)`:[^\n]*\n\n```\w+\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    return dict(blocks)


def installed(project: Path, place: Path) -> None:
    """What pip would make of a package: its modules in a folder of the path, and its entry points as metadata."""
    text = (project / "pyproject.toml").read_text()
    name = re.search(r'^name = "([\w-]+)"', text, re.MULTILINE)
    points = re.search(r'entry-points\."(.*?)"\]\n(.*?)\n\n', text, re.DOTALL)
    assert name is not None and points is not None
    info = place / f"{name[1].replace('-', '_')}-0.1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name[1]}\nVersion: 0.1.0\n")
    (info / "entry_points.txt").write_text(f"[{points[1]}]\n" + points[2].replace('"', "") + "\n")
    package = name[1].replace("-", "_")
    (place / package).symlink_to(project / package)


def run(place: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(place)}
    command = [sys.executable, "-m", "simulator.cli", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)


def test_the_page_makes_a_design(tmp_path: Path) -> None:
    files = files_of_the_page()
    assert set(files) == {"stripe/pyproject.toml", "stripe/stripe/stripe.yaml", "stripe/stripe/__init__.py"}
    lines = sum(len([line for line in text.splitlines() if line.strip()]) for text in files.values())
    said = re.search(r"It takes (\d+) lines", PAGE.read_text())
    assert said is not None and int(said[1]) == lines < 100, lines
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    place = tmp_path / "site"
    installed(tmp_path / "stripe", place)

    done = run(place, "--arch", "stripe", "--arch", "systolic", "--iso", "stripe", "bert-base", "--json", "-")
    assert done.returncode == 0, done.stderr
    stripe, systolic = json.loads(done.stdout)
    scope = stripe["scopes"]["attention"]
    macs = sum(layer["operations"] for layer in stripe["layers"] if layer["scope"] == "attention") // 2
    assert scope["cycles"] >= macs / 256
    assert scope["energy_pj"] > macs * 0.3
    assert scope["dram_useful_bytes"] == 12 * 4 * 128 * 768
    assert (
        stripe["resources"] == systolic["resources"] == {"multipliers": 256, "bandwidth_gbps": 256, "sram_bytes": 65536}
    )
    assert {item["kind"] for item in stripe["inputs"] if item["name"] == "design.multipliers"} == {"assumed"}

    small = run(place, "--arch", "stripe", "bert-base", "--set", "buffer_bytes=1000", "-q")
    assert (small.returncode, "--set buffer_bytes=16384" in small.stderr) == (2, True)
    wrong = run(place, "--arch", "stripe", "bert-base", "--set", "multiplier=1000", "-q")
    assert (wrong.returncode, "did you mean 'multipliers'" in wrong.stderr) == (2, True)
    vary = ("--vary", "multipliers=64:256:x2", "-j", "1", "-o", str(tmp_path / "s"), "--csv", "-")
    swept = run(place, "sweep", "bert-base", "-a", "stripe", *vary)
    assert swept.returncode == 0, swept.stderr
    assert len(swept.stdout.splitlines()) == 4


@pytest.mark.parametrize("base", ["spatten", "spatten-eighth", "systolic"])
def test_a_new_package_is_a_design(base: str, simulate: Simulate, tmp_path: Path) -> None:
    code, out, err = simulate("new", tmp_path / "my_machine", "--from", base)
    assert (code, err) == (0, "")
    assert "pip install -e" in out
    place = tmp_path / "site"
    installed(tmp_path / "my_machine", place)
    code = (
        "import simulator as sim; from simulator.designs.registry import make\n"
        "assert type(make('my_machine')[0]).__module__ == 'my_machine'\n"
        f"ours, theirs = (sim.run('bert-base', arch, fidelity='analytical') for arch in ('my_machine', '{base}'))\n"
        "assert (ours.design, ours.cycles, ours.energy_pj) == ('my_machine', theirs.cycles, theirs.energy_pj)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(place)}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)
    code, _, err = simulate("new", tmp_path / "my_machine", "--from", base)
    assert (code, "exists" in err) == (2, True)
    assert simulate("new", tmp_path / "my_machine", "--from", base, "--force")[0] == 0


@pytest.mark.parametrize("name", ["My", "a-b", "1a", "design.txt", "a b"])
def test_names_that_are_no_package(name: str, simulate: Simulate, tmp_path: Path) -> None:
    code, _, err = simulate("new", tmp_path / name)
    assert (code, "small letters" in err) == (2, True)
    assert list(tmp_path.iterdir()) == []
