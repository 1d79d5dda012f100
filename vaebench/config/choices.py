"""Choices: a name from a dict, and the options of that name in a section of their own."""

import difflib
import inspect
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from typing import Annotated, Any, ClassVar, TypeVar, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    SerializerFunctionWrapHandler,
    ValidationInfo,
    create_model,
    field_validator,
    model_serializer,
    model_validator,
)


def did_you_mean(name: str, choices: Iterable[str]) -> str:
    """The choices, and which of them was perhaps meant."""
    known = sorted(choices)
    close = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {close[0]!r}? " if close else ""
    return f"{hint}choose from {', '.join(known)}"


def one_of(registry: Mapping[str, Any]) -> AfterValidator:
    """Validate that a string is a key of ``registry``."""

    def check(name: str) -> str:
        if name not in registry:
            hint = did_you_mean(name[:60], list(registry))
            raise ValueError(f"unknown name {name[:60]!r}; {hint}")
        return name

    return AfterValidator(check)


class Section(BaseModel):
    """A mapping whose keys are known, and which does not change."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _no_switch_for_a_number(cls, value: Any, info: ValidationInfo) -> Any:
        """Refuse true and false (in YAML also yes, no, on, off) where they would count as 1, 0."""
        annotation = cls.model_fields[str(info.field_name)].annotation
        values = value if isinstance(value, list) else [value]
        if any(isinstance(v, bool) for v in values) and bool not in (
            annotation,
            *get_args(annotation),
        ):
            raise ValueError("Input should not be true or false")
        return value


class Grown(Section):
    """A section that got keys after runs had been published.

    Attributes:
        LATER: Those keys. They stay out of a dump at their defaults: a run keeps its identity.
    """

    LATER: ClassVar[frozenset[str]]

    @model_serializer(mode="wrap")
    def _without_unused_options(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        fields = self.__class__.model_fields
        unused = {key for key in self.LATER if getattr(self, key) == fields[key].default}
        return {key: value for key, value in handler(self).items() if key not in unused}


class Named(Section):
    """A section that a plain name stands for."""

    name: str

    @model_validator(mode="before")
    @classmethod
    def _from_name(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value


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
