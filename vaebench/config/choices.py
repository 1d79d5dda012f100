"""Choices: a name from a dict, and the options of that name in a section of their own."""

import inspect
from collections.abc import Callable, Mapping
from functools import cache
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, SerializerFunctionWrapHandler, create_model, model_serializer

from vaebench.schema.section import Named, Section, one_of


class Choice(Named):
    """A name from a dict, and its options."""

    @property
    def options(self) -> dict[str, Any]:
        """Keyword options of the chosen name."""
        section: Section | None = getattr(self, self.name, None)
        return section.model_dump() if section else {}

    @model_serializer(mode="wrap")
    def _own_section_only(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        others = _sections_of(self.__class__) - {self.name}
        return {k: v for k, v in handler(self).items() if k not in others}


def is_section(annotation: Any) -> bool:
    """Whether an annotation is a section."""
    return isinstance(annotation, type) and issubclass(annotation, Section)


@cache
def _sections_of(kind: type[BaseModel]) -> frozenset[str]:
    return frozenset(k for k, v in kind.model_fields.items() if is_section(v.annotation))


_C = TypeVar("_C", bound=Choice)


def _options(function: Callable[..., Any]) -> type[Section]:
    """Turn the annotated keyword options of a function (or dataclass) into a section."""
    fields: dict[str, Any] = {
        name: (parameter.annotation, parameter.default)
        for name, parameter in inspect.signature(function).parameters.items()
        if parameter.default is not inspect.Parameter.empty
    }
    return create_model(function.__name__, __base__=Section, **fields)


def choice(base: type[_C], registry: Mapping[str, Callable[..., Any]], default: str) -> type[_C]:
    """Extend a choice by the names of a registry and, where they have options, their sections."""
    sections: dict[str, Any] = {}
    for name, function in registry.items():
        section = _options(function)
        if section.model_fields:
            sections[name] = (section, section())
    kind: type[_C] = create_model(
        base.__name__, __base__=base, name=(Annotated[str, one_of(registry)], default), **sections
    )
    return kind
