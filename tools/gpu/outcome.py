"""Runs a part unless it was done or no time is left for it."""

from __future__ import annotations

import time

import torch
from parts import ROOT, Part, Setting
from process import Deadline
from state import State, digest

__all__ = ["outcome"]


def outcome(part: Part, setting: Setting, deadline: Deadline) -> tuple[str, float]:
    """Run a part unless it was done: (how it went, seconds)."""
    state = State(setting.folder / "state.json")
    key = digest(ROOT, part.sources, f"{setting.gpu} {torch.__version__} {setting.short}")
    some = part.name == "bench" and bool(setting.only)  # neither done by a run of all cases nor in its place
    if state.done(part.name, key) and not some:
        return "done before", float(state.parts[part.name]["seconds"])
    if part.gpu_only and setting.gpu is None:
        return "needs a GPU", 0.0
    if part.name != "build" and state.parts.get("build", {}).get("passed") is False:
        return "not run: no build", 0.0
    if deadline.left < 1:
        return "no time was left", 0.0
    print(f"\n== {part.name}", flush=True)
    start = time.monotonic()
    passed = part.run(setting, key, deadline.sooner(part.limit_s * setting.slower))
    seconds = time.monotonic() - start
    if not some:
        state.note(part.name, key, passed, seconds)
    return "passed" if passed else "FAILED", seconds
