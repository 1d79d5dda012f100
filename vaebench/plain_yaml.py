"""YAML as plain data: mappings, lists, text, numbers, true and false, null; bounded, never code.

Whatever vaebench reads as YAML (a configuration, the value of ``--set``, a manifest) passes through
:func:`load`. It refuses what a safe loader still lets through: nesting that overflows the stack,
aliases that expand to billions of values or to themselves, keys that stand twice, numbers of
thousands of digits, text that no file can hold. A date is text, since no setting is a date.
"""

from pathlib import Path
from typing import Any, ClassVar

import yaml
from yaml.composer import Composer
from yaml.constructor import SafeConstructor
from yaml.error import MarkedYAMLError

MAX_DEPTH = 50  # a configuration needs 8
MAX_VALUES = 4_000_000  # aliases expanded; a manifest of 100,000 runs has 1.6 million
MAX_DIGITS = 40

_TAGS = ("null", "bool", "int", "float", "str", "seq", "map")
_PREFIX = "tag:yaml.org,2002:"


def load(content: str | bytes) -> Any:
    """Read one YAML document.

    Raises:
        ValueError: It is none, or more than plain data; one line that says what and where.
    """
    try:
        loader = _Loader(content)
        try:
            return loader.get_single_data()
        finally:
            loader.dispose()
    except (yaml.YAMLError, ValueError, LookupError, AttributeError) as error:
        # beside its own errors PyYAML lets through those of `!!bool x`, `!!int ""`
        raise ValueError(f"not YAML: {' '.join(str(error).split())}") from error


def read(path: Path, max_bytes: int) -> Any:
    """Read a YAML file of at most ``max_bytes``.

    Raises:
        OSError: It cannot be read.
        ValueError: It is larger, or as for :func:`load`.
    """
    with path.open("rb") as file:
        content = file.read(max_bytes + 1)
    if len(content) > max_bytes:
        raise ValueError(f"larger than {max_bytes // 1000:,} kB")
    return load(content)


if hasattr(yaml, "CSafeLoader"):  # ten times as fast as the parser in Python

    class _Parser(Composer, yaml.CSafeLoader):
        """The parser in C without its composer, which deep nesting crashes."""

        def __init__(self, stream: str | bytes) -> None:
            yaml.CSafeLoader.__init__(self, stream)
            Composer.__init__(self)
else:

    class _Parser(yaml.SafeLoader):  # type: ignore[no-redef]
        """The parser in Python."""


class _Loader(_Parser):
    """Safe YAML with bounds."""

    yaml_constructors: ClassVar[dict[str | None, Any]] = {
        **{_PREFIX + tag: SafeConstructor.yaml_constructors[_PREFIX + tag] for tag in _TAGS},
        None: SafeConstructor.construct_undefined,
    }
    yaml_implicit_resolvers = {  # noqa: RUF012 (PyYAML declares it so)
        first: [(tag, pattern) for tag, pattern in resolvers if tag != f"{_PREFIX}timestamp"]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    _depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise MarkedYAMLError(None, None, f"nested more than {MAX_DEPTH} deep")
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.tag != f"{_PREFIX}merge":
                if key.value in seen:
                    raise _error(f"the key {key.value!r} stands twice", key)
                seen.add(key.value)
        return node

    def compose_document(self) -> yaml.Node | None:
        node = super().compose_document()
        if node is not None and _size(node, {}) > MAX_VALUES:
            raise _error(f"more than {MAX_VALUES:,} values", node)
        return node

    def construct_scalar(self, node: yaml.ScalarNode | yaml.MappingNode) -> Any:
        value = super().construct_scalar(node)
        if node.tag == f"{_PREFIX}int" and len(value) > MAX_DIGITS:
            raise _error("a number of too many digits", node)
        try:
            value.encode()
        except UnicodeEncodeError:
            raise _error("half a surrogate pair, which is no text", node) from None
        return value


def _error(problem: str, node: yaml.Node) -> MarkedYAMLError:
    return MarkedYAMLError(None, None, problem, node.start_mark)


def _size(node: yaml.Node, sizes: dict[int, float]) -> float:
    """How many values a node has once its aliases are expanded; one that holds itself, no end."""
    if id(node) not in sizes:
        sizes[id(node)] = float("inf")  # while we are inside it
        children = node.value if isinstance(node, yaml.CollectionNode) else []
        if isinstance(node, yaml.MappingNode):
            children = [child for pair in node.value for child in pair]
        sizes[id(node)] = 1 + sum(_size(child, sizes) for child in children)
    return sizes[id(node)]
