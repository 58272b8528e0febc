"""A web page in a real browser, on the same machine as a core, cannot ask it for anything, not even with its token."""

from __future__ import annotations

import base64
import json
import os
import shutil
import signal
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from tests.service.core_process import MODEL, CoreProcess, edit_request
from tests.service.raw_http import multipart, parts_of, post_edit

pytestmark = [pytest.mark.integration, pytest.mark.slow]

BROWSER = shutil.which("chromium")
BROWSING_SECONDS = 90.0

PAGE = """<!doctype html><meta charset="utf-8"><title>A page that means no good</title><body><script>
const core = "http://%(place)s", token = "%(token)s", history = core + "/v1/history", edits = core + "/v1/edits";
const bytes = (data) => Uint8Array.from(atob(data), (c) => c.charCodeAt(0));
const form = () => {
  const parts = new FormData();
  for (const [name, data] of %(parts)s) parts.append(name, new Blob([bytes(data)]), name);
  return parts;
};
const withToken = { Authorization: "Bearer " + token };
const read = async (url, options) => {
  const answer = await fetch(url, options);
  return answer.type + " " + answer.status + " " + (await answer.text());
};
const happens = (target, good, bad) => new Promise((resolve) => {
  setTimeout(() => resolve("nothing"), 5000);
  target["on" + good] = () => resolve(good);
  target["on" + bad] = () => resolve(bad);
});
const loaded = (make) => { const element = make(); document.body.append(element); return element; };
const sentForm = (withFile) => {
  const target = loaded(() => Object.assign(document.createElement("iframe"), { name: "f" + Math.random() }));
  const sent = loaded(() => Object.assign(document.createElement("form"), {
    action: edits, method: "post", enctype: "multipart/form-data", target: target.name }));
  if (withFile) {
    const files = new DataTransfer();
    for (const [name, data] of %(parts)s) {
      const one = new DataTransfer();
      one.items.add(new File([bytes(data)], name));
      const input = Object.assign(document.createElement("input"), { type: "file", name });
      input.files = one.files;
      sent.append(input);
    }
  }
  sent.submit();
  return happens(target, "load", "error").then(() => {
    try { return "readable " + target.contentDocument.body.textContent; } catch { return "unreadable"; }
  });
};
const attempts = {
  "fetch": () => read(history),
  "fetch health": () => read(core + "/v1/health"),
  "fetch with the token": () => read(history, { headers: withToken }),
  "fetch without cors, with the token": () => read(history, { mode: "no-cors", headers: withToken }),
  "fetch with the token in the address": () => read(history + "?token=" + token, { mode: "no-cors" }),
  "fetch with credentials": () => read(history, { credentials: "include" }),
  "delete": () => read(history, { method: "DELETE", headers: withToken }),
  "stop": () => read(core + "/v1/stop", { method: "POST", headers: withToken }),
  "stop without cors": () => read(core + "/v1/stop", { method: "POST", mode: "no-cors", headers: withToken }),
  "unload": () => read(core + "/v1/models/%(model)s/unload", { method: "POST", headers: withToken }),
  "post": () => read(edits, { method: "POST", body: form() }),
  "post with the token": () => read(edits, { method: "POST", headers: withToken, body: form() }),
  "post without cors": () => read(edits, { method: "POST", mode: "no-cors", headers: withToken, body: form() }),
  "post with forbidden headers": () => read(edits, { method: "POST", body: form(), headers: {
    ...withToken, Origin: "", Host: "lazydiffusion", "Sec-Fetch-Site": "none" } }),
  "xhr": () => new Promise((resolve) => {
    const xhr = new XMLHttpRequest();
    xhr.open("POST", edits);
    xhr.setRequestHeader("Authorization", "Bearer " + token);
    xhr.onload = () => resolve("load " + xhr.status + xhr.responseText);
    xhr.onerror = () => resolve("error");
    xhr.send(form());
  }),
  "beacon": async () => String(navigator.sendBeacon(edits, form())),
  "form": () => sentForm(false),
  "form with files": () => sentForm(true),
  "image": () => happens(Object.assign(new Image(), { src: history }), "load", "error"),
  "script": () => happens(loaded(() => Object.assign(document.createElement("script"), { src: history })),
    "load", "error"),
  "frame": () => {
    const frame = loaded(() => Object.assign(document.createElement("iframe"), { src: history }));
    return happens(frame, "load", "error").then(() => {
      try { return "readable " + frame.contentDocument.body.textContent; } catch { return "unreadable"; }
    });
  },
  "event source": () => happens(new EventSource(core + "/v1/edits/%(edit)s/events"), "open", "error"),
  "websocket": () => happens(new WebSocket(core.replace("http", "ws") + "/v1/edits"), "open", "error"),
  "its own server": () => read("/own"),
};
(async () => {
  const found = {};
  for (const [name, attempt] of Object.entries(attempts)) {
    try { found[name] = await attempt(); } catch (error) { found[name] = "error " + error.name; }
  }
  await fetch("/found", { method: "POST", body: JSON.stringify(found) });
})();
</script>"""

READABLE = "basic 200 own"
"""What the page reads of its own server: that shows that it can read at all."""


class Site:
    """A web server with one page, which tells it what it found."""

    def __init__(self) -> None:
        site = self
        self.page = b""
        self.found: dict[str, str] | None = None
        self.told = threading.Event()

        class Pages(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self._answer(b"own" if self.path == "/own" else site.page)

            def do_POST(self) -> None:
                site.found = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                self._answer(b"")
                site.told.set()

            def _answer(self, body: bytes) -> None:
                self.send_response(200)
                self.send_header("Content-Type", "text/html; charset=utf-8")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: Any) -> None:
                """Nothing: pytest shows what failed."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Pages)
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}/"

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture
def site() -> Iterator[Site]:
    made = Site()
    yield made
    made.close()


class Careless:
    """A server that answers whatever it is asked and lets every page read it: what the core must not be."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, bool, int]] = []
        """Method, path, whether a token came with it, and the body's length."""
        asked = self.asked

        class Answers(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                asked.append((self.command, self.path, "Authorization" in self.headers, len(body)))
                self.send_response(200)
                self.send_header("Access-Control-Allow-Origin", self.headers.get("Origin", "*"))
                self.send_header("Access-Control-Allow-Credentials", "true")
                self.send_header("Access-Control-Allow-Headers", "authorization")
                self.send_header("Access-Control-Allow-Methods", "DELETE")
                self.send_header("Content-Length", "4")
                self.end_headers()
                self.wfile.write(b"open")

            do_POST = do_DELETE = do_OPTIONS = do_GET  # noqa: N815 - http.server's names

            def log_message(self, format: str, *args: Any) -> None:
                """Nothing: pytest shows what failed."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()

    @property
    def place(self) -> str:
        return f"127.0.0.1:{self._server.server_port}"

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture
def careless() -> Iterator[Careless]:
    made = Careless()
    yield made
    made.close()


@pytest.fixture
def browser() -> str:
    if BROWSER is None:
        missing = (
            "NO BROWSER: that web pages are kept out is not tested here. Install Debian's package chromium."
        )
        if os.environ.get("CI"):
            pytest.fail(missing)
        pytest.skip(missing)
    return BROWSER


def browse(browser: str, site: Site, profile: Path) -> dict[str, str]:
    """What the page found."""
    command = [
        browser, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-dev-shm-usage",
        "--disable-background-networking", f"--user-data-dir={profile}", site.url,
    ]  # fmt: skip
    log = profile.with_suffix(".log")
    with log.open("wb") as output:
        running = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
        )
        try:
            site.told.wait(BROWSING_SECONDS)
        finally:
            os.killpg(running.pid, signal.SIGKILL)  # its own session: nobody else's browser is in there
            running.wait()
    assert site.found is not None, f"the page told nothing: {log.read_text(errors='replace')[-2000:]}"
    return site.found


def what_edits_changed(process: CoreProcess) -> tuple[object, ...]:
    core = process.client()
    info = core.info()
    return info["pid"], info["queue"], info["models"], [entry.id for entry in core.history()]


def test_the_page_reaches_a_server_that_lets_it(
    browser: str, site: Site, careless: Careless, tmp_path: Path
) -> None:
    """Otherwise the next test would show nothing but that the page is broken."""
    parts = parts_of(edit_request(64, 64, (20, 20, 20, 20)))
    site.page = page(careless.place, parts, "0123456789abcdef", "a-token")
    found = browse(browser, site, tmp_path / "profile")

    read = {attempt for attempt, told in found.items() if told == "cors 200 open"}
    assert read >= {"fetch", "fetch with the token", "fetch with credentials", "delete", "stop", "unload", "post",
                    "post with the token"}  # fmt: skip
    assert found["xhr"] == "load 200open"
    asked = {(method, path) for method, path, _, _ in careless.asked}
    assert asked >= {("GET", "/v1/history"), ("GET", "/v1/health"), ("DELETE", "/v1/history"), ("POST", "/v1/stop"),
                     ("GET", "/v1/history?token=a-token"), ("POST", f"/v1/models/{MODEL}/unload"),
                     ("GET", "/v1/edits/0123456789abcdef/events"), ("GET", "/v1/edits")}  # fmt: skip
    whole = sum(len(data) for _, data in parts)
    edits = [
        token
        for method, path, token, size in careless.asked
        if (method, path) == ("POST", "/v1/edits") and size > whole
    ]
    assert len(edits) >= 6  # by fetch, XMLHttpRequest, beacon and form
    assert any(edits)
    assert not all(edits)


@pytest.mark.parametrize("knows", [True, False], ids=["with the token", "with a wrong token"])
def test_whatever_a_page_tries_it_neither_reads_nor_changes_anything(
    browser: str, site: Site, tcp_process: CoreProcess, tmp_path: Path, knows: bool
) -> None:
    core = tcp_process.client()
    done = core.submit(edit_request(prompt="the user's own"))
    done.wait()
    parts = parts_of(edit_request(64, 64, (20, 20, 20, 20), prompt="the page's"))
    # The very body that the page sends is accepted from a program that has the token.
    accepted = post_edit(tcp_process.address(), tcp_process.token(), multipart(parts))
    assert accepted.status == 202
    core.edit(json.loads(accepted.body)["id"]).wait()
    before = what_edits_changed(tcp_process)

    site.page = page(
        tcp_process.address().removeprefix("tcp:"), parts, done.id, tcp_process.token() if knows else "wrong"
    )
    found = browse(browser, site, tmp_path / "profile")

    assert found.pop("its own server") == READABLE
    assert found.pop("beacon") in ("true", "false")  # it only says that it was sent
    for attempt in ("form", "form with files", "frame"):
        assert found.pop(attempt) == "unreadable"
    for attempt, told in found.items():
        # What is fetched without CORS is opaque: the page sees neither status nor body.
        assert told.startswith("error") or told == "opaque 0 ", (attempt, told)
    assert len(found) >= 17
    assert "the user" not in json.dumps(found)
    assert what_edits_changed(tcp_process) == before
    assert [entry.settings.prompt for entry in core.history(limit=2)] == ["the page's", "the user's own"]
    assert len(core.submit(edit_request()).wait()) == 1


def page(place: str, parts: list[tuple[str, bytes]], edit: str, token: str) -> bytes:
    coded = json.dumps([(name, base64.b64encode(data).decode("ascii")) for name, data in parts])
    return (PAGE % {"place": place, "token": token, "parts": coded, "edit": edit, "model": MODEL}).encode(
        "utf8"
    )
