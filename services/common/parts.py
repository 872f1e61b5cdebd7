"""The parts of an analysis, named as the contract's enum `Part` names them: PART_BEATS is `beats`."""

from stemtube.analysis.v1 import analysis_pb2

_PREFIX = "PART_"

Part = str
"""The name of a part."""

PART_NUMBERS: "dict[Part, analysis_pb2.Part.ValueType]" = {
    name.removeprefix(_PREFIX).lower(): number for name, number in analysis_pb2.Part.items() if number
}
"""The contract's numbers, in the order in which the parts are shown."""

PART_NAMES = {number: name for name, number in PART_NUMBERS.items()}
PARTS = tuple(PART_NUMBERS)
USES_BEATS: tuple[Part, ...] = ("chords", "structure")
"""The parts that beats help to find, as the entries of their backends declare (`needs`)."""


def part_json_name(part: Part) -> str:
    """The name of a part in the JSON of messages: PART_BEATS."""
    return analysis_pb2.Part.Name(PART_NUMBERS[part])
