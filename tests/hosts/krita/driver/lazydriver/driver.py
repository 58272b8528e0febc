"""Runs snippets of Python on Krita's GUI thread, as a test asks for them over a Unix socket.

A request is one line of JSON: {"kind", "snippet", "values"}; the answer is {"value"} or {"error": a traceback}. Kinds:
"ask" answers with what the snippet returns, "later" answers first and runs it then, "settle" answers when Qt has
taken the events that were waiting.
"""

import ast
import json
import linecache
import socket
import threading
import traceback

import krita

from .heartbeat import Heartbeat
from .qt import QtCore, QtGui, QtWidgets

SETTLE_MS = 40


class Driver(QtCore.QObject):
    """Listens in threads, so that waiting costs the GUI nothing; a queued signal brings requests to the GUI thread.

    A modal dialog runs an event loop of its own, which delivers that signal too.
    """

    arrived = QtCore.pyqtSignal(object)

    def __init__(self, path):
        super().__init__()
        self._keep = {}
        self._count = 0
        self._heartbeat = Heartbeat(self)
        self.arrived.connect(self._serve, QtCore.Qt.ConnectionType.QueuedConnection)
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(path)
        self._listener.listen()
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self):
        while True:
            connection, _ = self._listener.accept()
            threading.Thread(target=self._converse, args=(connection,), daemon=True).start()

    def _converse(self, connection):
        with connection, connection.makefile("rw", encoding="utf8") as stream:
            line = stream.readline()
            if not line:
                return
            request = Request(json.loads(line))
            self.arrived.emit(request)
            request.answered.wait()
            try:
                stream.write(json.dumps(request.answer) + "\n")
                stream.flush()
            except BrokenPipeError:
                pass  # the test gave up waiting and has said so

    def _serve(self, request):
        if request.kind == "settle":
            # Twice, because a timer that is already due may run before events that have just come in.
            once_more = lambda: QtCore.QTimer.singleShot(0, lambda: request.reply({"value": None}))  # noqa: E731
            QtCore.QTimer.singleShot(SETTLE_MS, once_more)
            return
        if request.kind == "later":
            request.reply({"value": None})
            QtCore.QTimer.singleShot(0, lambda: self._run(request))
            return
        try:
            value = self._run(request)
            json.dumps(value)
        except BaseException:
            request.reply({"error": traceback.format_exc()})
        else:
            request.reply({"value": value})

    def _run(self, request):
        self._count += 1
        name = f"<snippet {self._count}>"
        lines = request.snippet.splitlines(keepends=True)
        linecache.cache[name] = (len(request.snippet), None, lines, name)  # tracebacks show the lines
        app = krita.Krita.instance()
        main = app.activeWindow()
        scope = {
            "app": app,
            "window": main.qwindow() if main else None,
            "find": find,
            "keep": self._keep,
            "heartbeat": self._heartbeat,
            "krita": krita,
            "QtCore": QtCore,
            "QtGui": QtGui,
            "QtWidgets": QtWidgets,
            **request.values,
        }
        with self._heartbeat.during(f"the test's snippet: {' '.join(request.snippet.split())[-60:]}"):
            exec(compile(as_function(request.snippet), name, "exec"), scope)
            return scope["snippet"]()


class Request:
    """What a test asked for, and the answer once there is one."""

    def __init__(self, told):
        self.kind = told["kind"]
        self.snippet = told.get("snippet", "")
        self.values = told.get("values", {})
        self.answer = None
        self.answered = threading.Event()

    def reply(self, answer):
        self.answer = answer
        self.answered.set()


def as_function(snippet):
    """The snippet as the body of a function named snippet; an expression alone is what it returns."""
    body = ast.parse(snippet).body
    if len(body) == 1 and isinstance(body[0], ast.Expr):
        body = [ast.copy_location(ast.Return(body[0].value), body[0])]
    module = ast.parse("def snippet(): pass")
    if body:
        module.body[0].body = body
    return module


def find(name):
    """The widget with that objectName, anywhere in Krita; of several the visible one in the active window."""
    found = [widget for widget in QtWidgets.QApplication.allWidgets() if widget.objectName() == name]
    if not found:
        raise LookupError(f'There is no widget "{name}" in Krita.')
    active = QtWidgets.QApplication.activeWindow()
    return max(found, key=lambda widget: (widget.isVisible(), widget.window() == active))
