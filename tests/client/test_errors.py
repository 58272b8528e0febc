"""What an artist reads when the core cannot be used: a sentence that says what to do."""

from __future__ import annotations

import pytest

from lazydiffusion.client import (
    CoreError,
    CoreFailedToStart,
    CoreLost,
    CoreTooOld,
    EditFailed,
    EditRejected,
    EditRunning,
    GaveUp,
)
from lazydiffusion.errors import LazyDiffusionError

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    "error",
    [
        CoreLost(),
        CoreTooOld.of_protocol(0),
        CoreTooOld.of_protocol(99),
        CoreTooOld.of_protocol(None),
        CoreFailedToStart("It failed."),
        EditRejected("It is empty.", "bad-input"),
        EditFailed("It broke.", "internal"),
        EditRunning(),
        GaveUp(),
    ],
    ids=str,
)
def test_every_error_is_a_sentence(error: CoreError) -> None:
    assert isinstance(error, LazyDiffusionError)
    assert str(error).endswith(".")
    assert str(error)[0].isupper()


def test_the_side_that_is_older_is_to_be_updated() -> None:
    assert str(CoreTooOld.of_protocol(99)).endswith("Update the plugin.")
    assert "Update LazyDiffusion, run `lazydiffusion stop`" in str(CoreTooOld.of_protocol(0))


def test_a_log_is_shown_at_the_end() -> None:
    error = CoreFailedToStart("It failed.", "line 1\nline 2")
    assert str(error) == "It failed.\nThe end of its log:\nline 1\nline 2"
    assert error.log_tail == "line 1\nline 2"
