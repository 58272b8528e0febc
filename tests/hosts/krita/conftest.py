"""A Krita with the plugin and a core with a tiny model, shared by the tests of a file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.hosts.conftest import StartKrita
from tests.hosts.krita.artist import PANEL, Artist, with_plugin
from tests.hosts.krita.real_krita import RealKrita

CLOSE_OTHERS = """
active = app.activeDocument()
for document in app.documents():
    if document != active:
        document.setModified(False)
        document.close()
"""

TIDY = f"""{PANEL}
panel.switch_live(False)
panel.cancel()
panel.notice.clear()
panel.settings.show_values(type(panel.preferences)(model=panel.preferences.model))
while panel.results.results:
    panel.results.remove(panel.results.results[0])
"""


@pytest.fixture(scope="module")
def plugin_krita(start_shared_krita: StartKrita, tiny_model: Path) -> RealKrita:
    return start_shared_krita(install=with_plugin(tiny_model))


@pytest.fixture
def artist(plugin_krita: RealKrita) -> Iterator[Artist]:
    """At work in the shared Krita; no result of an earlier test is there, and at most one of its documents."""
    yield Artist(plugin_krita)
    plugin_krita.ask(TIDY)
    plugin_krita.ask(
        CLOSE_OTHERS
    )  # not the active one, whose layers Krita may still be listing: see LAYER_LIST
