"""Choices: a name from a registry, and the options of that name in a section of their own."""

import inspect
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import SerializerFunctionWrapHandler, create_model, model_serializer

from vaebench.plugins import function_of
from vaebench.schema.section import Named, Section, one_of


class Choice(Named):
    """A name from a registry, and its options."""

    @property
    def options(self) -> dict[str, Any]:
        """Keyword options of the chosen name."""
        section: Section | None = getattr(self, self.name, None)
        return section.model_dump() if section else {}

    @model_serializer(mode="wrap")
    def _own_section_only(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        fields = type(self).model_fields
        others = {k for k in fields if is_section(fields[k].annotation)} - {self.name}
        return {k: v for k, v in handler(self).items() if k not in others}


def is_section(annotation: Any) -> bool:
    """Whether an annotation is a section."""
    return isinstance(annotation, type) and issubclass(annotation, Section)


def _options(name: str, function: Any) -> type[Section]:
    """Turn the annotated keyword options of a function (or dataclass) into a section."""
    fields: dict[str, Any] = {
        key: (parameter.annotation, parameter.default)
        for key, parameter in inspect.signature(function).parameters.items()
        if parameter.default is not inspect.Parameter.empty
    }
    return create_model(name, __base__=Section, **fields)


def choice(base: type[Choice], registry: Mapping[str, Any], default: str) -> Any:
    """A field: the choice of a name from a registry, with sections of options, and its default."""
    sections: dict[str, Any] = {}
    for name, entry in registry.items():
        section = _options(name, function_of(entry))
        if section.model_fields:
            sections[name] = (section, section())
    name_field: Any = (Annotated[str, one_of(registry)], default)
    kind = create_model(base.__name__, __base__=base, name=name_field, **sections)
    return kind, kind(name=default)
