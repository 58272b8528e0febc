"""Models that the core fetches from the hub because an artist asked for them; each in a thread of its own."""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass, field
from typing import Literal

from lazydiffusion.errors import LazyDiffusionError
from lazydiffusion.known_models import KNOWN, KnownModel

LOG = logging.getLogger(__name__)

DownloadState = Literal["absent", "downloading", "checking", "failed"]


@dataclass
class Download:
    """One model's; threads may read it at any time."""

    model: KnownModel
    bytes: int
    """How much there is to download in all: about, until the hub has said it."""
    state: DownloadState = "downloading"
    problem: str = ""
    """Why it failed, as a sentence."""
    stopped: threading.Event = field(default_factory=threading.Event)

    @property
    def is_running(self) -> bool:
        """Whether its thread is at work."""
        return self.state in ("downloading", "checking")


class Downloads:
    """Starts and stops them. What is fetched stays on the disk, so that a later start goes on from there."""

    def __init__(self) -> None:
        self._downloads: dict[str, Download] = {}
        self._threads: dict[str, threading.Thread] = {}
        """The last one of each name: it may still be at work on what was stopped."""
        self._lock = threading.Lock()

    def start(self, name: str) -> None:
        """Begin to download a known model; nothing happens while that runs. Raises KeyError for an unknown one."""
        model = KNOWN[name]
        with self._lock:
            known = self._downloads.get(name)
            if known is not None and known.is_running:
                return
            download = self._downloads[name] = Download(model, model.bytes)
            # A daemon: the core does not wait for it when it ends.
            thread = threading.Thread(
                target=self._run,
                args=(download, self._threads.get(name)),
                name=f"download-{name}",
                daemon=True,
            )
            self._threads[name] = thread
        thread.start()

    def stop(self, name: str) -> None:
        """End a download soon; nothing happens if there is none."""
        with self._lock:
            download = self._downloads.pop(name, None)
        if download is not None:
            download.stopped.set()

    def close(self) -> None:
        """End all of them."""
        for name in list(self._downloads):
            self.stop(name)

    def get(self, name: str) -> Download | None:
        """The one of a model that was started, and not stopped, since the core runs; also after it failed."""
        return self._downloads.get(name)

    def running(self) -> bool:
        """Whether anything is being downloaded."""
        return any(it.is_running for it in list(self._downloads.values()))

    def _run(self, download: Download, before: threading.Thread | None) -> None:
        name = download.model.name
        if before is not None:
            before.join()
        try:
            self._pull(download)
        except Exception as error:
            if download.stopped.is_set():
                LOG.info("The download of %s was stopped.", name)
                return
            expected = isinstance(error, LazyDiffusionError)
            LOG.warning("The download of %s failed: %s", name, error, exc_info=not expected)
            download.problem = str(error) if expected else f"The download failed unexpectedly: {error}."
            download.state = "failed"
        else:
            with self._lock:
                if self._downloads.get(name) is download:
                    del self._downloads[name]

    @staticmethod
    def _pull(download: Download) -> None:
        # Here, because it brings the hub's client: a core that downloads nothing need not wait for it.
        from lazydiffusion import pulling

        name = download.model.name
        pull = pulling.prepare(name)
        download.bytes = pull.model.bytes
        if pull.is_done:
            return
        pull.check_room()
        LOG.info("Downloading %s at commit %s to %s.", pull.model.repo, pull.model.commit, pull.target)

        def checking() -> None:
            download.state = "checking"

        pull.run(lambda count: None, checking, download.stopped.is_set)
        LOG.info("The model %s is ready.", name)
