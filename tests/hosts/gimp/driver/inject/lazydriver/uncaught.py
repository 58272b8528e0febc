"""Writes down the exceptions that nobody caught: one JSON string a line, for the test to read."""

import json
import os
import sys
import textwrap
import threading
import traceback


def install(path):
    """From now on, append tracebacks to the file `path`; they go to stderr as well.

    What is raised in a callback of GTK or GLib comes by sys.excepthook too: PyGObject calls it.
    """

    def of_thread(arguments):
        if arguments.exc_type is not SystemExit:  # which ends a thread without a word
            record(arguments.exc_value)

    def of_nobody(arguments):
        where = f"{arguments.err_msg or 'Exception ignored in'}: {arguments.object!r}\n"
        record(arguments.exc_value, where)

    os.environ["LAZYDRIVER_UNCAUGHT"] = path
    sys.excepthook = lambda kind, error, trace: record(error.with_traceback(trace))
    threading.excepthook = of_thread
    sys.unraisablehook = of_nobody


def record(error, where=""):
    text = where + "".join(traceback.format_exception(error))
    line = json.dumps(text) + "\n"
    # One write to a file in append mode: another process's lines do not get into it.
    file = os.open(os.environ["LAZYDRIVER_UNCAUGHT"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.write(file, line.encode())
    os.close(file)
    # For the log, where a traceback that is not indented is one that was not recorded.
    print(textwrap.indent(text, "UNCAUGHT "), file=sys.stderr, flush=True)  # noqa: T201
