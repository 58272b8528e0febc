"""Runs snippets on the main loop of a plug-in, as a test asks for them over a Unix socket.

Requests are those of lazydriver.snippets, and "settle" answers when GTK has taken the events that were waiting. Nothing
of gi is imported before the plug-in has: it chooses the versions.
"""

import json
import socket
import sys
import threading
import time

from . import snippets

SETTLE_MS = 40
MODULES = ("Gimp", "Gtk", "Gdk", "GLib")


def listen(path):
    """Listen in threads, so that waiting costs the plug-in nothing; the main loop takes requests when it is idle.

    A dialog that runs a loop of its own takes them too.
    """
    path.unlink(missing_ok=True)  # left by a process that had this number before
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen()
    driver = Driver()

    def accept():
        while True:
            connection, _ = listener.accept()
            threading.Thread(target=driver.converse, args=(connection,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()


class Driver:
    def __init__(self):
        self._runner = snippets.Runner()

    def converse(self, connection):
        """Serve one request, from a thread of its own."""
        with connection, connection.makefile(encoding="utf8") as stream:
            line = stream.readline()
            if not line:
                return
            told = json.loads(line)
            answers = []
            answered = threading.Event()

            def reply(answer):
                answers.append(answer)
                answered.set()

            while not (glib := whole_glib()):
                time.sleep(0.02)
            glib.idle_add(self._serve, glib, told, reply)
            answered.wait()
            snippets.send(connection, answers[0])

    def _serve(self, glib, told, reply):
        if told["kind"] == "settle":
            # Then idle once more, and after redrawing: events that have just come in go first.
            glib.timeout_add(SETTLE_MS, lambda: once(glib.idle_add, lambda: once(reply, {"value": None})))
        elif told["kind"] == "later":
            reply({"value": None})
            glib.idle_add(lambda: once(self._runner.run, told, scope()))
        else:
            reply(self._runner.answer(told, scope()))
        return False


def whole_glib():
    """GLib once the plug-in has imported it. PyGObject shows a module to other threads before it is complete."""
    glib = sys.modules.get("gi.repository.GLib")
    function = getattr(glib, "idle_add", None)
    return glib if getattr(function, "__module__", None) == "gi.overrides.GLib" else None


def once(function, *arguments):
    """For a source of the main loop that shall not come again."""
    function(*arguments)
    return False


def scope():
    modules = {name: sys.modules.get(f"gi.repository.{name}") for name in MODULES}
    ours = (find, widgets, visible_part, hit_of, has_windows)
    return {**modules, **{function.__name__: function for function in ours}}


def widgets():
    """All widgets of this process, each after the one that it is in."""
    gtk = sys.modules.get("gi.repository.Gtk")
    found = []

    def walk(widget):
        found.append(widget)
        if isinstance(widget, gtk.Container):
            widget.forall(walk)  # with those that a widget is made of, as the buttons of a dialog

    for window in gtk.Window.list_toplevels() if gtk else ():
        walk(window)
    return found


def find(name):
    """The widget with that name, anywhere in this process; of several one on the screen, in the active window."""
    found = [widget for widget in widgets() if name_of(widget) == name]
    if not found:
        raise LookupError(f'There is no widget "{name}" in the plug-in.')

    def rank(widget):
        window = widget.get_toplevel()
        return widget.get_mapped(), window.is_toplevel() and window.has_toplevel_focus()

    return max(found, key=rank)


def name_of(widget):
    """Its name; None of one whose Python object another thread's garbage collection is just taking apart."""
    try:
        return widget.get_name()
    except RuntimeError:  # "is not initialized"; seen once, of a label
        return None


def visible_part(widget, x, y):
    """Whether a point of a widget (px from its corner) is inside all that it is in, so not scrolled away."""
    part = widget
    while part is not None:
        there = widget.translate_coordinates(part, x, y)
        size = part.get_allocation()
        if there is not None and not (0 <= there[0] < size.width and 0 <= there[1] < size.height):
            return False
        part = part.get_parent()
    return True


def hit_of(widget):
    """What the pointer is on, as GTK will deliver a click there: a widget of this process, or None."""
    pointer = widget.get_display().get_default_seat().get_pointer()
    window = pointer.get_window_at_position()[0]
    return None if window is None else owner(window)


def has_windows(widget):
    """Whether clicks on a widget are its own; those on a label are for what it lies in."""
    if widget.get_has_window():
        return True
    return any(owner(window) == widget for window in widget.get_window().get_children())


def owner(window):
    """The widget that gets the events of a Gdk.Window."""
    gdk = sys.modules["gi.repository.Gdk"]
    event = gdk.Event.new(gdk.EventType.BUTTON_PRESS)
    event.button.window = window
    return sys.modules["gi.repository.Gtk"].get_event_widget(event)
