"""Choices: a name from a registry, and the options of that name in a section of their own."""

import inspect
from typing import Annotated, Any

from pydantic import SerializerFunctionWrapHandler, create_model, model_serializer
from pydantic.errors import PydanticUserError

from vaebench.errors import ConfigError
from vaebench.plugins import Registry, function_of, told
from vaebench.schema.section import Named, Section, one_of

GIVEN = frozenset({"maps"})  # parameters with a default that vaebench gives, and no options


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
    """Turn the annotated keyword options of a function (or dataclass) into a section.

    Where an option has no annotation, its default says what it is.
    """
    fields: dict[str, Any] = {}
    for key, parameter in inspect.signature(function, eval_str=True).parameters.items():
        if parameter.default is inspect.Parameter.empty or key in GIVEN:
            continue
        kind = parameter.annotation
        if kind is inspect.Parameter.empty:
            kind = Any if parameter.default is None else type(parameter.default)
        fields[key] = (kind, parameter.default)
    return create_model(name, __base__=Section, **fields)


def choice(base: type[Choice], registry: Registry[Any], default: str) -> Any:
    """A field: the choice of a name from a registry, with sections of options, and its default.

    Raises:
        ConfigError: An entry cannot have the name, or its options cannot be read.
    """
    sections: dict[str, Any] = {}
    for name, entry in registry.items():
        if hasattr(base, name) or name in base.model_fields:
            raise ConfigError(
                f"{registry.kind} {name!r} ({registry.origin(name)}): the name is taken by a key; "
                f"choose another"
            )
        try:
            section = _options(name, function_of(entry))
            if section.model_fields:
                sections[name] = (section, section())
        except (PydanticUserError, NameError, TypeError, ValueError) as error:
            raise ConfigError(
                f"{registry.kind} {name!r} ({registry.origin(name)}): its options cannot be read: "
                f"{told(error)}; give each an annotation such as int and a default that fits"
            ) from error
    name_field: Any = (Annotated[str, one_of(registry)], default)
    kind = create_model(base.__name__, __base__=base, name=name_field, **sections)
    return kind, kind(name=default)
