"""Writes down the exceptions that nobody caught: one JSON string a line, for the test to read."""

import json
import sys
import threading
import traceback


def install(path):
    """From now on, append tracebacks to the file `path`.

    In place of Krita's own hook, which opens a modal dialog. A file, because it outlives a Krita that crashes.
    """

    def record(kind, error, trace):
        text = "".join(traceback.format_exception(kind, error, trace))
        with open(path, "a", encoding="utf8") as file:  # noqa: PTH123 - Krita's hook may be called at its end
            file.write(json.dumps(text) + "\n")
        print("UNCAUGHT\n" + text, file=sys.stderr, flush=True)  # noqa: T201 - for the log

    def record_of_thread(arguments):
        if arguments.exc_type is not SystemExit:  # which ends a thread without a word
            record(arguments.exc_type, arguments.exc_value, arguments.exc_traceback)

    sys.excepthook = record
    threading.excepthook = record_of_thread
