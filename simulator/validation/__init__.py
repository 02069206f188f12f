"""Published values beside ours: `simulate validate`.

Targets are data (`targets/*.yaml`), ours are computed by the measures that they name, and the verdict of a row follows
from its class and tolerance alone.
"""

from simulator.validation.check import Moved, Row, Validation, validate_targets
from simulator.validation.targets import Target, Tolerance, Topic, load_topic, shipped_topics

__all__ = [
    "Moved",
    "Row",
    "Target",
    "Tolerance",
    "Topic",
    "Validation",
    "load_topic",
    "shipped_topics",
    "validate_targets",
]
