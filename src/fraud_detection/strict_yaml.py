"""YAML that means one thing and costs nothing to read: no key twice, no endless nesting, merging or numbers."""

import re
from typing import Any

import yaml

_DEEPEST = 30
_MOST_PAIRS = 10_000
"""In one mapping, with those that are merged into it: merges of merges multiply."""
_LARGEST_BITS = 128
"""Of an integer; Python refuses to print some of the larger ones."""
_KEY = re.compile(r"[\w.-]{1,100}")  # anything else may hold a password


class StrictLoader(yaml.SafeLoader):
    """Refuses what PyYAML would take in silence, and what it fails at with other errors than its own."""

    _depth = 0

    def compose_node(self, parent: Any, index: Any) -> yaml.Node | None:  # noqa: ANN401  (the stubs are wrong)
        if self._depth >= _DEEPEST:
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
            raise yaml.MarkedYAMLError(problem=f"more than {_DEEPEST} levels of nesting", problem_mark=mark)
        self._depth += 1
        try:
            return super().compose_node(parent, index)
        finally:
            self._depth -= 1

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:  # noqa: ANN401
        node = super().compose_mapping_node(anchor)
        found: dict[str, yaml.Mark] = {}
        for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
            if key.value in found:
                shown = key.value if _KEY.fullmatch(key.value) else "…"
                problem = f"key {shown!r} is in line {found[key.value].line + 1}, too; keep one of the two"
                raise yaml.MarkedYAMLError(problem=problem, problem_mark=key.start_mark)
            found[key.value] = key.start_mark
        return node

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        super().flatten_mapping(node)
        if len(node.value) > _MOST_PAIRS:
            raise yaml.MarkedYAMLError(problem="too much is merged here", problem_mark=node.start_mark)

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:  # noqa: ANN401
        try:
            found = super().construct_object(node, deep)
        except (ValueError, TypeError, LookupError, AttributeError, ArithmeticError) as error:
            kind = str(node.tag).rpartition(":")[2] or "value"
            raise yaml.MarkedYAMLError(
                problem=f"this cannot be a {kind}; put quotes around it if it is a text", problem_mark=node.start_mark
            ) from error
        if isinstance(found, int) and found.bit_length() > _LARGEST_BITS:
            raise yaml.MarkedYAMLError(problem="the number is too large", problem_mark=node.start_mark)
        return found
