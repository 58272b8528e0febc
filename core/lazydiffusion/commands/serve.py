"""`lazydiffusion serve`, `status`, `stop` and `connect`: the resident core from a terminal."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import platformdirs
from rich.console import Console

from lazydiffusion.client import places
from lazydiffusion.client.core import Core, announced, connect
from lazydiffusion.client.errors import CoreLost, CoreTooOld, EditRejected
from lazydiffusion.client.locks import holder
from lazydiffusion.client.start import remember_command
from lazydiffusion.errors import BadInput, CannotWrite, LazyDiffusionError

NOT_RUNNING = 1
"""Exit status of `status` and `stop` when there is no core."""
END_TIMEOUT = 15.0
"""Seconds in which a core ends after a signal."""


def serve(
    tcp: str | None,
    socket: Path | None,
    model: str,
    device: str,
    idle_timeout: float,
    history: Path | None,
    weights: str = "full",
) -> int:
    """Be the core until stopped; gives the exit status. Raises LazyDiffusionError."""
    from lazydiffusion.service.runtime import AlreadyRunning, Runtime

    if tcp is not None and socket is not None:
        raise BadInput("Both --tcp and --socket are given; the core listens at one place: choose one.")
    if weights != "full" or device not in ("auto", "cuda", "cpu"):
        # Only then: torch takes seconds to import, and of many that start at once most end below.
        from lazydiffusion.devices import check_device, check_weights

        check_weights(weights)
        check_device(device)
    try:
        runtime = Runtime()  # before the long imports: of many that start at once all but one end here
    except AlreadyRunning as error:
        print(f"lazydiffusion: {error}", file=sys.stderr)
        return places.ALREADY_RUNNING
    with runtime:
        from lazydiffusion.service.server import Options, serve

        serve(
            Options(
                history=history or history_folder(), tcp=tcp, socket=socket, model=model, device=device,
                idle_timeout=idle_timeout, weights=weights,
            ),
            runtime,
        )  # fmt: skip
    return 0


def history_folder() -> Path:
    """Where finished fills are kept, unless `--history` says otherwise."""
    return platformdirs.user_data_path("lazydiffusion", appauthor=False) / "history"


def status(as_json: bool) -> int:
    """Print where the core is and what it does; gives the exit status."""
    try:
        core = connect(start=False)
        info: dict[str, Any] | None = core.info()
    except CoreLost:
        core, info = None, None
    if core is None or info is None:
        print(json.dumps({"running": False}) if as_json else _not_found())
        return NOT_RUNNING
    facts = {
        "running": True,
        "address": core.address,
        "token_file": str(places.runtime_folder() / places.RUNTIME_FILE),
        **info,
    }
    if as_json:
        print(json.dumps(facts))
    else:
        _describe(core, info)
    return 0


def _not_found() -> str:
    pid = holder(_lock())
    if pid is None:
        return "The core is not running. It starts with the first edit."
    hint = f" (pid {pid})" if pid else ""
    return (
        f"A core is running{hint}, but does not say where, or does not answer. Look again in a moment; "
        "`lazydiffusion stop` ends it."
    )


def _describe(core: Core, info: dict[str, Any]) -> None:
    console = Console(markup=False, highlight=False, soft_wrap=True)
    device, queue = info["device"], info["queue"]
    console.print(f"The core {info['version']} (pid {info['pid']}) is {info['state']} at {core.address}.")
    console.print(f"Token file: {places.runtime_folder() / places.RUNTIME_FILE}")
    if info.get("problem"):
        console.print(f"Device: none. {info['problem']}")
    elif device is None:
        console.print("Device: not known yet, PyTorch is being loaded.")
    else:
        free, total = (device[key] / 2**30 for key in ("memory_free", "memory_total"))
        console.print(
            f"Device: {device['name']} ({device['reason']}), {free:.1f} of {total:.1f} GiB memory free."
        )
    models = ", ".join(f"{model['name']} ({model['state']})" for model in info["models"])
    console.print(f"Models: {models}")
    running = "one edit is running" if queue["running"] else "no edit is running"
    console.print(f"Queue: {running}, {queue['waiting']} waiting.")
    history = info["history"]
    console.print(
        f"History: {history['folder']}, {history['bytes'] / 2**20:.1f} of {history['max_bytes'] / 2**20:.0f} MiB."
    )


def stop() -> int:
    """End the core; gives the exit status. Raises LazyDiffusionError when it does not end."""
    try:
        core: Core | None = connect(start=False)
    except CoreLost:
        core = None
    except (CoreTooOld, EditRejected):  # it runs, and ends when it is asked, whatever else it cannot do
        core = announced()
    pid = holder(_lock())
    if core is not None:
        ended = core.stop()
    elif pid is None:
        print("The core is not running.")
        return NOT_RUNNING
    else:
        ended = _end(pid)
    if not ended:
        hint = f" (pid {pid})" if pid else ""
        raise LazyDiffusionError(f"The core{hint} was asked to end but still runs; end it by its pid.")
    print("The core has ended.")
    return 0


def _lock() -> Path:
    """What a running core holds."""
    return places.runtime_folder() / places.CORE_LOCK


def _end(pid: int) -> bool:
    """Whether a core that cannot be asked, for it does not say where it is, ends within a while of a signal."""
    if not pid:
        return False
    deadline = time.monotonic() + END_TIMEOUT
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGTERM)
    while holder(_lock()) is not None:
        if time.monotonic() >= deadline:
            return False
        time.sleep(0.1)
    return True


def own_command() -> list[str]:
    """The command of this installation, which need not be on the PATH."""
    beside = Path(sys.executable).with_name("lazydiffusion" + (".exe" if sys.platform == "win32" else ""))
    return [str(beside)] if beside.is_file() else [sys.executable, "-m", "lazydiffusion"]


def connect_editors() -> None:
    """Write the pointer by which this user's editors find this installation. Raises CannotWrite."""
    command = own_command()
    try:
        path = remember_command(command)
    except OSError as error:
        raise CannotWrite(
            f"The folder {places.config_folder()} cannot be written: {error.strerror}. Check its permissions."
        ) from error
    print(f"Editors now start the core with {' '.join(command)} ({path}).")
