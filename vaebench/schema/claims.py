"""What a grid is to show: claims that its report judges, published numbers that it compares with.

Neither changes a run: both may be added to a grid that is finished. Whether the cells and metrics
that they name exist is for the grid to say, see :class:`vaebench.config.Grid`.
"""

import re
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from vaebench.schema.labels import cell_label
from vaebench.schema.section import Section

ELBO_MARGIN = 0.5  # nats: what counts as equal unless a claim says otherwise

Values = Annotated[dict[str, Any], Field(min_length=1)]


def _metric_name(name: str) -> str:
    if not re.fullmatch(r"[a-z_]+/\w+", name):
        raise ValueError(f"{name!r} is no metric of a run, such as test/ssim or val/elbo")
    return name


MetricName = Annotated[str, AfterValidator(_metric_name)]


class At(Section):
    """Where along a curve two sets of cells are compared.

    Attributes:
        rate: ``matched``: at equal rate, by curves over the axes of numbers.
    """

    rate: Literal["matched"]


class Claim(Section):
    """A statement about two sets of cells, given by values of axes.

    Either the cells of ``better`` are better by ``metric`` than those of ``than``, or the two sets
    in ``same`` differ by less than ``margin`` (in the metric's unit; 0.5 nats for an ELBO).

    Attributes:
        claim: The statement in words.
        metric: A final metric, ``test/ssim``.
        better: The cells claimed to be better, as values of axes: ``{loss: bce}``.
        than: The cells that they are compared with, as values of the same axes.
        same: Two sets of cells claimed to be equal, each as values of the same axes.
        margin: The largest difference that counts as equal (0.5 nats for an ELBO).
        at: ``{rate: matched}``: the two sets are compared at equal rate. Each has cells along an
            axis of numbers, such as ``training.beta``, that move it along its curve.
    """

    claim: str = Field(default="", max_length=300)
    metric: MetricName
    better: Values | None = None
    than: Values | None = None
    same: Annotated[tuple[Values, Values], Field(min_length=2)] | None = None
    margin: float | None = Field(default=None, gt=0)
    at: At | None = None

    @property
    def sides(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """The two sets of cells, as values of axes."""
        if self.same is not None:
            return self.same
        assert self.better is not None
        assert self.than is not None
        return self.better, self.than

    @property
    def name(self) -> str:
        """Its words, or what it says where it has none."""
        first, second = map(cell_label, self.sides)
        is_ = "the same as" if self.margin is not None else "better than"
        return self.claim or f"{first} is {is_} {second}"

    @model_validator(mode="before")
    @classmethod
    def _default_margin(cls, value: Any) -> Any:
        if isinstance(value, dict) and "same" in value and str(value.get("metric")) == "test/elbo":
            return {"margin": ELBO_MARGIN} | value
        return value

    @model_validator(mode="after")
    def _is_one_kind(self) -> Self:
        ordered = self.better is not None and self.than is not None and self.margin is None
        equal = self.better is None and self.than is None and self.margin is not None
        if not (ordered if self.same is None else equal):
            raise ValueError("a claim has either better and than, or same (two sides) and margin")
        first, second = self.sides
        if first.keys() != second.keys():
            raise ValueError("both sides of a claim name the same axes")
        if first == second:
            raise ValueError("the two sides of a claim are the same cells")
        return self


def _tolerance(value: float | str) -> float | str:
    if isinstance(value, str) and not re.fullmatch(r"\d+(\.\d+)?%", value):
        raise ValueError("a number in the metric's unit, or a share of the value such as 1%")
    if isinstance(value, float) and not value > 0:
        raise ValueError("should be greater than 0")
    return value


class Published(Section):
    """A number from elsewhere that the runs of a cell are to reproduce.

    Attributes:
        source: Where it was published, in words.
        url: Link to the source.
        cell: Values of axes that choose the cell.
        metric: ``val/elbo`` (from the journal, with ``epoch``) or ``test/elbo`` (a final metric).
        epoch: Epoch of the journal; None for a final metric.
        value: The published number, as vaebench defines the metric: an ELBO, not a loss.
        add: Added to our number before comparing, as the constant that a published loss left out.
        within: The tolerance: a number in the metric's unit, or a share of the value (``1%``).
        exact: Whether the value is no publication but computed exactly, from a closed form, say.
    """

    source: str = Field(max_length=300)
    url: str | None = Field(default=None, pattern=r"^https?://\S+$", max_length=500)
    cell: Values
    metric: MetricName
    epoch: int | None = Field(default=None, ge=1)
    value: float
    add: float = 0.0
    within: Annotated[float | str, AfterValidator(_tolerance)]
    exact: bool = False
