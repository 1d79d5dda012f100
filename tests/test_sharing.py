"""Equal parts of records are kept once, and stay what they were."""

import copy

from records import make_config, make_record

from vaebench.report.sharing import Sharing


def test_records_are_the_same_and_share_what_is_equal() -> None:
    share = Sharing()
    cell = {"model": "fnn", "loss": "bce", "estimator": "kl"}
    config = make_config(cell, 0)
    records = [make_record(str(seed), cell, seed, config) for seed in (0, 1)]
    before = copy.deepcopy(records)
    shared = [share(record) for record in records]
    assert shared == before
    one, other = shared
    assert one["metric_declarations"] is other["metric_declarations"]
    assert one["environment"] is other["environment"]
    assert one["metrics"] is not other["metrics"]
