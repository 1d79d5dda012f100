"""Claims and published numbers in a grid's file: read, completed, refused."""

from typing import Any

import pytest

from vaebench.config import make_grid
from vaebench.errors import ConfigError
from vaebench.grid.manifest import make_manifest

BETTER = {"metric": "test/ssim", "better": {"loss": "bce"}, "than": {"loss": "mse"}}
SAME = {"metric": "test/elbo", "same": [{"estimator": "sgvb"}, {"estimator": "kl"}]}
PUBLISHED = {"source": "a log", "cell": {"model": "fnn"}, "metric": "test/elbo", "value": -105.6}


def test_claims_stand_in_the_manifest_as_the_file_has_them() -> None:
    grid = make_grid({"claims": [BETTER, SAME], "published": [PUBLISHED | {"within": "1%"}]})
    manifest = make_manifest(grid, grid.runs())
    assert manifest["claims"] == [{"claim": ""} | BETTER, {"claim": "", "margin": 0.5} | SAME]
    assert manifest["published"] == [PUBLISHED | {"add": 0.0, "within": "1%", "exact": False}]


def test_claims_and_published_numbers_change_no_run() -> None:
    plain = [run.config.run_id for run in make_grid({}).runs()]
    more = make_grid({"claims": [BETTER, SAME], "published": [PUBLISHED | {"within": 0.5}]})
    assert [run.config.run_id for run in more.runs()] == plain


def test_an_equivalence_of_another_metric_names_its_margin() -> None:
    with pytest.raises(ConfigError, match=r"same .two sides. and margin"):
        make_grid({"claims": [SAME | {"metric": "test/ssim"}]})
    grid = make_grid({"claims": [SAME | {"metric": "test/ssim", "margin": 0.01}]})
    assert grid.claims[0].margin == 0.01


@pytest.mark.parametrize(
    ("claim", "message"),
    [
        (BETTER | {"better": {"los": "bce"}}, "claims.0: both sides of a claim name the same axes"),
        (BETTER | {"than": {"loss": "bce"}}, "the two sides of a claim are the same cells"),
        (BETTER | SAME, "either better and than, or same"),
        (BETTER | {"margin": 1.0}, "either better and than, or same"),
        (BETTER | {"metric": "ssim"}, "'ssim' is no metric of a run, such as test/ssim"),
        (SAME | {"margin": -1}, "claims.0.margin: "),
        (SAME | {"same": [{"estimator": "kl"}]}, "claims.0.same"),
        (
            {"metric": "test/ssim", "better": {"los": "bce"}, "than": {"los": "mse"}},
            "claims.0: 'los' is no axis; did you mean 'loss'",
        ),
        (BETTER | {"bettr": 1}, "claims.0.bettr: "),
        (
            BETTER | {"metric": "test/sim"},
            "claims.0.metric: 'test/sim' is not measured after training; did you mean 'test/ssim'?",
        ),
        (BETTER | {"metric": "val/elbo"}, "'val/elbo' is not measured after training"),
    ],
)
def test_a_wrong_claim_is_explained(claim: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as found:
        make_grid({"claims": [claim]})
    assert message in str(found.value)


def test_a_published_number_of_a_metric_that_is_not_measured_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"published\.0\.metric: 'val/elbo' is not measured"):
        make_grid({"published": [PUBLISHED | {"metric": "val/elbo", "within": 0.5}]})
    make_grid({"published": [PUBLISHED | {"metric": "val/elbo", "epoch": 1, "within": 0.5}]})


@pytest.mark.parametrize("within", ["1 percent", "1 %", "%", -0.5, 0.0])
def test_a_wrong_tolerance_is_explained(within: Any) -> None:
    with pytest.raises(ConfigError, match=r"published\.0.within"):
        make_grid({"published": [PUBLISHED | {"within": within}]})
