"""Small widgets of the docker: a prompt, something to fold, a notice, symbols that suit every theme."""

from __future__ import annotations

from html import escape
from typing import Callable, Optional

from lazydiffusion.client.words import tr

from .qt import QtCore, QtGui, QtWidgets

Qt = QtCore.Qt

SYMBOL = 16
"""Side of a symbol, px."""


class PromptEdit(QtWidgets.QPlainTextEdit):
    """Several lines; Shift+Enter means go."""

    submitted = QtCore.pyqtSignal()

    def __init__(self, lines: int, parent: Optional[QtWidgets.QWidget] = None) -> None:
        super().__init__(parent)
        self.setTabChangesFocus(True)
        margins = round(2 * self.document().documentMargin()) + 2 * self.frameWidth()
        self.setFixedHeight(lines * self.fontMetrics().lineSpacing() + margins)

    def keyPressEvent(self, event: QtGui.QKeyEvent) -> None:
        """Shift+Enter, with either Enter key."""
        enter = event.key() in (Qt.Key.Key_Return, Qt.Key.Key_Enter)
        if enter and event.modifiers() & Qt.KeyboardModifier.ShiftModifier:
            self.submitted.emit()
            event.accept()
        else:
            super().keyPressEvent(event)

    def insertFromMimeData(self, source: QtCore.QMimeData) -> None:
        """Paste words only."""
        self.insertPlainText(source.text())


class Fold(QtWidgets.QWidget):
    """A heading that shows and hides what is below it."""

    toggled = QtCore.pyqtSignal(bool)

    def __init__(self, title: str, content: QtWidgets.QWidget, name: str) -> None:
        super().__init__()
        self.content = content
        self._open = False
        self._button = QtWidgets.QToolButton()
        self._button.setObjectName(name)
        self._button.setText(title)
        self._button.setAutoRaise(True)
        self._button.setToolButtonStyle(Qt.ToolButtonStyle.ToolButtonTextBesideIcon)
        self._button.setArrowType(Qt.ArrowType.RightArrow)
        self._button.clicked.connect(self._clicked)  # not checkable: it would look pressed down
        layout = QtWidgets.QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(2)
        layout.addWidget(self._button)
        layout.addWidget(content)
        content.hide()

    @property
    def open(self) -> bool:
        """Whether the content shows."""
        return self._open

    @open.setter
    def open(self, value: bool) -> None:
        if value != self._open:
            self._open = value
            self._button.setArrowType(Qt.ArrowType.DownArrow if value else Qt.ArrowType.RightArrow)
            self.content.setVisible(value)
            self.toggled.emit(value)

    def _clicked(self) -> None:
        self.open = not self._open


class Notice(QtWidgets.QFrame):
    """A sentence to the artist that stays until it is answered, closed or replaced; it never takes the keyboard."""

    wanted = QtCore.pyqtSignal()
    """Something went wrong, or is asked: the artist should see it."""

    def __init__(self, parent: Optional[QtWidgets.QWidget] = None) -> None:
        super().__init__(parent)
        self.setObjectName("lazyNotice")
        self._edge = QtGui.QColor()
        self._label = QtWidgets.QLabel()
        self._label.setObjectName("lazyNoticeText")
        self._label.setWordWrap(True)
        self._label.setTextFormat(Qt.TextFormat.PlainText)
        self._label.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self._label.setSizePolicy(
            QtWidgets.QSizePolicy.Policy.Ignored, QtWidgets.QSizePolicy.Policy.MinimumExpanding
        )
        close = tool_button("close", tr("Close"), "lazyNoticeClose")
        close.clicked.connect(self.clear)
        self._answer = QtWidgets.QPushButton()
        self._answer.setObjectName("lazyNoticeAnswer")
        self._answer.clicked.connect(self._answered)
        self._callback: Optional[Callable[[], None]] = None
        row = QtWidgets.QHBoxLayout()
        row.addWidget(self._label, 1)
        row.addWidget(close, 0, Qt.AlignmentFlag.AlignTop)
        layout = QtWidgets.QVBoxLayout(self)
        layout.setContentsMargins(10, 6, 6, 6)
        layout.addLayout(row)
        layout.addWidget(self._answer)
        self.hide()

    @property
    def text(self) -> str:
        """What it says; empty while it is hidden."""
        return self._label.text() if not self.isHidden() else ""

    def error(self, text: str) -> None:
        """Say what went wrong."""
        self._say(text, "#d04545")
        self.wanted.emit()

    def tell(self, text: str) -> None:
        """Say something that is no error."""
        self._say(text, "#4a8ac9")

    def ask(self, text: str, answer: str, callback: Callable[[], None]) -> None:
        """Say something that one button answers."""
        self._say(text, "#d09a30")
        self._answer.setText(answer)
        self._callback = callback
        self._answer.show()
        self.wanted.emit()

    def clear(self) -> None:
        """Take it away."""
        self._callback = None
        self.hide()

    def _say(self, text: str, edge: str) -> None:
        self._callback = None
        self._answer.hide()
        self._label.setText(text)
        self._edge = QtGui.QColor(edge)
        self.update()
        self.show()

    def paintEvent(self, event: QtGui.QPaintEvent) -> None:
        """Draw the edge. Only it has a colour of its own, so the text is readable on whatever the theme's ground is.

        By hand, because a style sheet would set the docker's small font aside.
        """
        painter = QtGui.QPainter(self)
        painter.setRenderHint(QtGui.QPainter.RenderHint.Antialiasing)
        painter.setPen(self._edge)
        painter.drawRoundedRect(QtCore.QRectF(self.rect()).adjusted(0.5, 0.5, -0.5, -0.5), 3, 3)
        painter.fillRect(0, 1, 4, self.height() - 2, self._edge)
        painter.end()

    def _answered(self) -> None:
        callback = self._callback
        self.clear()
        if callback is not None:
            callback()


class Dot(QtWidgets.QWidget):
    """A small coloured disc."""

    def __init__(self) -> None:
        super().__init__()
        self.setFixedSize(9, 9)
        self._colour = ""

    def set_colour(self, colour: str) -> None:
        """Paint it so. Nothing happens when it is so already: what the docker paints costs Krita a whole frame."""
        if colour != self._colour:
            self._colour = colour
            self.update()

    def paintEvent(self, event: QtGui.QPaintEvent) -> None:
        """Qt's own hook."""
        painter = QtGui.QPainter(self)
        painter.setRenderHint(QtGui.QPainter.RenderHint.Antialiasing)
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(QtGui.QColor(self._colour))
        painter.drawEllipse(self.rect())
        painter.end()


class WheelGuard(QtCore.QObject):
    """Lets the wheel scroll the docker over fields that it would change, unless they have the keyboard."""

    def guard(self, widget: QtWidgets.QWidget) -> None:
        """Guard one field."""
        widget.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        widget.installEventFilter(self)

    def eventFilter(self, watched: QtCore.QObject, event: QtCore.QEvent) -> bool:
        """Qt's own hook."""
        if event.type() == QtCore.QEvent.Type.Wheel and not watched.hasFocus():
            event.ignore()
            return True
        return False


def wrapped(tip: str) -> str:
    """A tooltip that Qt breaks into lines, which it does with rich text only."""
    return "".join("<p>%s</p>" % escape(line) for line in tip.splitlines())


def tool_button(symbol: str, what: str, name: str) -> QtWidgets.QToolButton:
    """A small button with a symbol; `what` it does is its tooltip, and its name for screen readers."""
    button = _SymbolButton(symbol)
    button.setObjectName(name)
    button.setToolTip(what)
    button.setAccessibleName(what)
    button.setAutoRaise(True)
    return button


class _SymbolButton(QtWidgets.QToolButton):
    """Draws its symbol in the theme's text colour, again when the theme changes."""

    def __init__(self, symbol: str) -> None:
        super().__init__()
        self._symbol = symbol
        self.setIconSize(QtCore.QSize(SYMBOL, SYMBOL))
        self.toggled.connect(lambda on: self._redraw())
        self._redraw()

    def changeEvent(self, event: QtCore.QEvent) -> None:
        """The palette may have changed."""
        super().changeEvent(event)
        if event.type() in (QtCore.QEvent.Type.PaletteChange, QtCore.QEvent.Type.StyleChange):
            self._redraw()

    def _redraw(self) -> None:
        symbol = "locked" if self._symbol == "lock" and self.isChecked() else self._symbol
        icon = QtGui.QIcon()
        role = QtGui.QPalette.ColorRole.ButtonText
        for group, mode in (
            (QtGui.QPalette.ColorGroup.Active, QtGui.QIcon.Mode.Normal),
            (QtGui.QPalette.ColorGroup.Disabled, QtGui.QIcon.Mode.Disabled),
        ):
            icon.addPixmap(_symbol(symbol, self.palette().color(group, role), self.devicePixelRatioF()), mode)
        self.setIcon(icon)


def _symbol(name: str, colour: QtGui.QColor, ratio: float) -> QtGui.QPixmap:
    """One of close, previous, next, dice, lock (open), locked: drawn on a grid of 16 x 16."""
    pixmap = QtGui.QPixmap(round(SYMBOL * ratio), round(SYMBOL * ratio))
    pixmap.setDevicePixelRatio(ratio)
    pixmap.fill(Qt.GlobalColor.transparent)
    painter = QtGui.QPainter(pixmap)
    painter.setRenderHint(QtGui.QPainter.RenderHint.Antialiasing)
    pen = QtGui.QPen(colour, 1.6)
    pen.setCapStyle(Qt.PenCapStyle.RoundCap)
    pen.setJoinStyle(Qt.PenJoinStyle.RoundJoin)
    painter.setPen(pen)
    path = QtGui.QPainterPath()
    if name == "close":
        _lines(path, (4.5, 4.5), (11.5, 11.5))
        _lines(path, (11.5, 4.5), (4.5, 11.5))
    elif name == "previous":
        _lines(path, (10, 3.5), (5.5, 8), (10, 12.5))
    elif name == "next":
        _lines(path, (6, 3.5), (10.5, 8), (6, 12.5))
    elif name == "dice":
        path.addRoundedRect(QtCore.QRectF(2.5, 2.5, 11, 11), 2, 2)
        painter.setBrush(colour)
        for x, y in ((5.5, 5.5), (10.5, 5.5), (8, 8), (5.5, 10.5), (10.5, 10.5)):
            painter.drawEllipse(QtCore.QPointF(x, y), 0.45, 0.45)
        painter.setBrush(Qt.BrushStyle.NoBrush)
    else:
        painter.fillRect(QtCore.QRectF(3.5, 7.5, 9, 6), colour)
        path.addRect(QtCore.QRectF(3.5, 7.5, 9, 6))
        left = 5.5 if name == "locked" else 8.5
        path.moveTo(left, 7.5)
        path.lineTo(left, 5.5)
        path.arcTo(QtCore.QRectF(left, 2.5, 5, 6), 180, -180)
        path.lineTo(left + 5, 7.5 if name == "locked" else 6.0)
    painter.drawPath(path)
    painter.end()
    return pixmap


def _lines(path: QtGui.QPainterPath, *points: tuple[float, float]) -> None:
    path.moveTo(*points[0])
    for point in points[1:]:
        path.lineTo(*point)
