"""The stages of deploy/docker/Dockerfile."""

import re
from dataclasses import dataclass, field
from pathlib import Path

DOCKER = Path(__file__).parents[2] / "deploy" / "docker"


@dataclass
class Stage:
    """A stage: its base, and its instructions (name, arguments) in order."""

    name: str
    base: str
    instructions: list[tuple[str, str]] = field(default_factory=list)

    def arguments(self, name: str) -> list[str]:
        return [arguments for instruction, arguments in self.instructions if instruction == name]


def stages(text: str) -> tuple[dict[str, str], dict[str, Stage]]:
    """The build arguments with their defaults, and the stages by name."""
    lines = [line for line in text.splitlines() if not re.match(r"\s*#", line)]
    defaults: dict[str, str] = {}
    found: dict[str, Stage] = {}
    for line in re.sub(r"\\\n\s*", "", "\n".join(lines)).splitlines():
        name, _, arguments = line.strip().partition(" ")
        if not name:
            continue
        if name == "FROM":
            base, keyword, stage = arguments.split()
            assert keyword == "AS"
            found[stage] = current = Stage(stage, base)
        elif not found:
            assert name == "ARG"
            key, _, default = arguments.partition("=")
            defaults[key] = default
        else:
            current.instructions.append((name, arguments))
    return defaults, found
