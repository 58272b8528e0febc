"""Runs snippets of Python inside GIMP, as a test asks for them over a Unix socket.

GIMP's own Python (python-fu-eval) executes this file as a batch command. GIMP goes on with its windows behind it, and
ends when this does, if it was started with --quit. libgimp may be called by one thread only: requests are served one
after the other, and one that waits for a procedure keeps the next ones waiting. The words of a request are told in
lazydriver.snippets, and one kind is told here: "quit" ends this file.
"""

import json
import os
import socket

import gi

gi.require_version("Gimp", "3.0")
gi.require_version("Gegl", "0.4")
from gi.repository import Gegl, Gimp, Gio, GLib, GObject  # noqa: E402 - in these versions
from lazydriver import snippets, uncaught  # noqa: E402


def serve(path):
    runner = snippets.Runner()
    scope = {"Gimp": Gimp, "Gegl": Gegl, "Gio": Gio, "GLib": GLib, "GObject": GObject, "pdb": Gimp.get_pdb()}
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path + "~")
        listener.listen()
        os.rename(path + "~", path)  # noqa: PTH104 - a test that sees it may connect
        while True:
            connection, _ = listener.accept()
            later = None
            with connection, connection.makefile(encoding="utf8") as stream:
                line = stream.readline()
                if not line:
                    continue
                told = json.loads(line)
                if told["kind"] == "ask":
                    answer = runner.answer(told, scope)
                else:
                    answer = {"value": None}
                    later = told if told["kind"] == "later" else None
                snippets.send(connection, answer)
            if told["kind"] == "quit":
                return
            if later:
                try:
                    runner.run(later, scope)
                except Exception as error:
                    uncaught.record(error)


uncaught.install(os.environ["LAZYDRIVER_UNCAUGHT"])
serve(os.environ["LAZYDRIVER_SOCKET"])
