"""Sections: mappings whose keys are known, from which configurations and claims are made."""

import difflib
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    SerializerFunctionWrapHandler,
    ValidationInfo,
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

    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, protected_namespaces=()
    )

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
