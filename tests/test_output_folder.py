"""Where results go is tried before the work, and what goes wrong there is a sentence."""

from __future__ import annotations

from pathlib import Path

import pytest

from lazydiffusion import output_folder
from lazydiffusion.errors import CannotWrite

pytestmark = pytest.mark.unit


def test_a_folder_that_can_be_made_is_not_there_afterwards(tmp_path: Path) -> None:
    output_folder.check(tmp_path / "new" / "deep", ["results.json"])
    assert list(tmp_path.iterdir()) == []
    with output_folder.writing(tmp_path / "new" / "deep"):
        assert (tmp_path / "new" / "deep").is_dir()
    output_folder.check(tmp_path / "new" / "deep")
    assert (tmp_path / "new" / "deep").is_dir()


def test_what_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "table.md").mkdir()
    for out, sentence in (
        (tmp_path / "file", "file cannot be made: File exists. Choose another --out."),
        (tmp_path / "file" / "out", "out cannot be made: Not a directory"),
        (tmp_path, "table.md is there and cannot be written over"),
    ):
        with pytest.raises(CannotWrite, match=sentence):
            output_folder.check(out, ["results.json", "table.md"])
    with (
        pytest.raises(CannotWrite, match="The results cannot be written to "),
        output_folder.writing(tmp_path),
    ):
        (tmp_path / "table.md").write_text("")


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="a folder in which even root may not make a file")
def test_a_folder_in_which_nothing_can_be_made_is_told() -> None:
    with pytest.raises(CannotWrite, match="The folder /proc/results cannot be made"):
        output_folder.check(Path("/proc/results"))
    with pytest.raises(CannotWrite, match="The folder /proc/self cannot be written to"):
        output_folder.check(Path("/proc/self"))
