"""Five hundred edits in a row from four clients: nothing is lost, nothing doubled, no memory kept."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable

import pytest
from tests.service.core_process import CoreProcess, edit_request

from lazydiffusion.client import Core, FillPixels
from lazydiffusion.client.transport import Transport
from lazydiffusion.events import LAST, Done, Filled

pytestmark = [pytest.mark.integration, pytest.mark.slow]

CLIENTS, EDITS = 4, 125
WARM_UP = 25
"""Edits of each client after which the memory is first looked at."""


def fingerprint(made: FillPixels) -> tuple[int, str]:
    return made.seed, hashlib.sha256(made.rgba).hexdigest()


def test_five_hundred_edits_from_four_clients(new_process: Callable[..., CoreProcess]) -> None:
    process = new_process()
    process.start()
    address, token = process.address(), process.token()
    one = Core(Transport(address, token), "first")
    right = {seed: fingerprint(one.submit(edit_request(seed=seed)).wait()[0]) for seed in range(CLIENTS)}
    assert len(set(right.values())) == CLIENTS

    ids: list[str] = []
    wrong: list[str] = []
    memory: list[int] = []
    rest = threading.Barrier(CLIENTS, action=lambda: memory.append(process.memory))

    def client(number: int) -> None:
        core = Core(Transport(address, token), f"client-{number}")
        for turn in range(EDITS):
            if turn == WARM_UP:
                rest.wait(timeout=60)
            edit = core.submit(edit_request(seed=number))
            told = list(edit.events())
            fills = [event for event in told if isinstance(event, Filled)]
            ends = [event for event in told if isinstance(event, LAST)]
            if len(fills) != 1 or not fills[0].saved or [type(end) for end in ends] != [Done]:
                wrong.append(f"client {number}, edit {turn}: {told}")
            elif fingerprint(edit.fill(0)) != right[number]:
                wrong.append(f"client {number}, edit {turn}: another edit's pixels")
            ids.append(edit.id)
        rest.wait(timeout=60)

    threads = [threading.Thread(target=client, args=(number,), daemon=True) for number in range(CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(300)
    assert not any(thread.is_alive() for thread in threads)
    assert wrong == []
    assert len(set(ids)) == CLIENTS * EDITS

    entries = {entry.id: entry for entry in one.history(limit=1000)}
    assert len(entries) == CLIENTS * EDITS + CLIENTS
    assert all(entries[id].state == "done" and len(entries[id].fills) == 1 for id in ids)
    warm, end = memory
    print(f"resident memory: {warm / 2**20:.1f} MiB after 100 edits, {end / 2**20:.1f} MiB after 500")  # noqa: T201
    assert end < 1.05 * warm
    assert one.info()["queue"] == {"running": False, "waiting": 0, "client": ""}
    assert "Traceback" not in process.said()
