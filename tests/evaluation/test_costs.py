"""What fixed edits cost is committed: operations and calls, exact. A change that costs more shows here, by number."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lazydiffusion.engines.names import LAZY, REGENERATE_CROP, REGENERATE_IMAGE
from lazydiffusion.evaluation.costs import FIXED, HOW_TO_REGENERATE, count_costs, differences

COMMITTED = Path(__file__).with_name("costs.json")


@pytest.mark.integration
@pytest.mark.usefixtures("one_thread")
def test_fixed_edits_cost_what_is_committed() -> None:
    changed = differences(json.loads(COMMITTED.read_text(encoding="utf8")), count_costs())
    if changed:
        lines = "\n  ".join(changed)
        pytest.fail(
            f"Edits cost something else than before:\n  {lines}\nIf that is meant: {HOW_TO_REGENERATE}",
            pytrace=False,
        )


@pytest.mark.unit
def test_what_is_committed_is_lazy() -> None:
    """The file itself says what the project claims; a regenerated one has to go on saying it."""
    costs = json.loads(COMMITTED.read_text(encoding="utf8"))
    assert list(costs) == [case.name for case in FIXED]
    lazy, whole, *others = (
        costs[f"{engine}, 10 %, 256 px, 4 steps"] for engine in (LAZY, REGENERATE_IMAGE, REGENERATE_CROP)
    )
    assert sum(lazy["decoder_steps"].values()) == sum(whole["decoder_steps"].values()) == 4
    assert lazy["flops"]["steps"] < 0.16 * whole["flops"]["steps"]  # 40 of 256 tokens
    assert all(other["flops"]["steps"] == whole["flops"]["steps"] for other in others)
    for name, cost in costs.items():
        assert cost["calls"]["text"] == cost["calls"]["codec decode"] == 1
        assert cost["calls"].get("context", 0) == (", again" not in name)
    assert costs["lazy, 10 %, 2048 px, as sent, 4 steps"]["flops"] == lazy["flops"]


@pytest.mark.unit
def test_a_difference_says_which_number_changed_from_what_to_what() -> None:
    old = {"lazy": {"tokens": 40, "flops": {"steps": 1000000, "text": 5}, "calls": {"text": 1}}}
    new = {
        "lazy": {"tokens": 40, "flops": {"steps": 2000000}, "calls": {"text": 1, "context": 2}},
        "other": 1,
    }
    assert differences(old, new) == [
        "lazy: flops: steps: 1,000,000 -> 2,000,000",
        "lazy: flops: text: 5 -> nothing",
        "lazy: calls: context: nothing -> 2",
        "other: nothing -> 1",
    ]
    assert differences(old, old) == []
