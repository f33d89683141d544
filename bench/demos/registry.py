"""All scenarios, by name; those first that leave memory behind, which takes a minute to become normal."""

from __future__ import annotations

from . import descriptors, disk, leak, loop
from .scenario import Scenario

SCENARIOS: dict[str, Scenario] = {module.SCENARIO.name: module.SCENARIO for module in (descriptors, leak, loop, disk)}
