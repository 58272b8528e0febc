"""The settings of an edit beside its prompt, as fields."""

from __future__ import annotations

from typing import Callable, Optional, Union

from lazydiffusion.client.fields import Field, FieldValues, fields, thrown_seed
from lazydiffusion.client.words import tr
from lazydiffusion.protocol import MAX_SEED

from .document import Layer
from .model_box import DownloadButtons, ModelBox
from .qt import QtCore, QtGui, QtWidgets
from .widgets import WheelGuard, tool_button


class SettingsForm(QtWidgets.QWidget):
    """Fields for everything of `FieldValues` but mode and prompts."""

    edited = QtCore.pyqtSignal()
    """The artist changed a field."""

    def __init__(self, layers: Callable[[], list[Layer]], parent: Optional[QtWidgets.QWidget] = None) -> None:
        """`layers`: gives the layers that could be a sketch, asked when the list opens."""
        super().__init__(parent)
        self._guard = WheelGuard(self)
        known = fields()
        self.variations = self._number("lazyVariations", known["variations"])
        self.steps = self._number("lazySteps", known["steps"])
        self.strength = self._number("lazyStrength", known["strength"])
        self.grow = self._number("lazyGrow", known["grow"])
        self.feather = self._number("lazyFeather", known["feather"])
        self.guidance = QtWidgets.QDoubleSpinBox()
        self.guidance.setObjectName("lazyGuidance")
        self.guidance.setRange(known["guidance"].low, known["guidance"].high)
        self.guidance.setDecimals(1)
        self.guidance.setSingleStep(0.5)
        for automatic in (self.steps, self.guidance):
            automatic.setSpecialValueText(tr("Automatic"))
        self.guidance.valueChanged.connect(lambda value: self.edited.emit())
        self.seed = QtWidgets.QLineEdit()
        self.seed.setObjectName("lazySeed")
        self.seed.setValidator(_SeedValidator(self.seed))
        self.seed.editingFinished.connect(self._seed_typed)
        self.lock = tool_button("lock", tr("Keep this seed"), "lazySeedLock")
        self.lock.setCheckable(True)
        # Or the dice would be thrown over what the artist has just typed.
        self.seed.textEdited.connect(lambda text: self.lock.setChecked(True))
        self.lock.toggled.connect(lambda on: self.edited.emit())
        dice = tool_button("dice", tr("Throw the dice: a new seed"), "lazySeedDice")
        dice.clicked.connect(self._dice)
        seed_row = QtWidgets.QHBoxLayout()
        seed_row.setSpacing(2)
        for part in (self.seed, self.lock, dice):
            seed_row.addWidget(part)
        self.sketch = SketchBox(layers)
        self.model = ModelBox(known["model"].tip)
        _narrow(self.model, "lazyModel")
        self.model.activated.connect(lambda index: self.edited.emit())
        self.downloads = DownloadButtons()

        form = QtWidgets.QFormLayout(self)
        form.setContentsMargins(4, 0, 0, 0)
        form.setVerticalSpacing(4)
        form.setFieldGrowthPolicy(QtWidgets.QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        shown: dict[str, Union[QtWidgets.QWidget, QtWidgets.QLayout]] = {
            "variations": self.variations,
            "seed": seed_row,
            "steps": self.steps,
            "guidance": self.guidance,
            "strength": self.strength,
            "grow": self.grow,
            "feather": self.feather,
            "sketch": self.sketch,
            "model": self.model,
        }
        for name, field in known.items():
            form.addRow(field.label, shown[name])
            for widget in (form.labelForField(shown[name]), shown[name]):
                if isinstance(widget, QtWidgets.QWidget):
                    widget.setToolTip(field.tip)
        form.addRow("", self.downloads)
        self.seed.setToolTip(known["seed"].tip)
        for guarded in (self.guidance, self.sketch, self.model):
            self._guard.guard(guarded)

    def show_values(self, values: FieldValues) -> None:
        """Fill the fields."""
        was = self.blockSignals(True)
        self.variations.setValue(values.variations)
        self.seed.setText(str(values.seed))
        self.lock.setChecked(values.seed_locked)
        self.steps.setValue(values.steps)
        self.guidance.setValue(values.guidance)
        self.strength.setValue(values.strength)
        self.grow.setValue(values.grow)
        self.feather.setValue(values.feather)
        self.model.choose(values.model)
        self.blockSignals(was)

    def store_values(self, values: FieldValues) -> None:
        """What the fields hold, into `values`."""
        values.variations = self.variations.value()
        values.seed = int(self.seed.text() or 0)
        values.seed_locked = self.lock.isChecked()
        values.steps, values.guidance = self.steps.value(), self.guidance.value()
        values.strength, values.grow = self.strength.value(), self.grow.value()
        values.feather = self.feather.value()
        values.model = self.model.name

    def throw_dice(self) -> None:
        """A new seed."""
        self.seed.setText(str(thrown_seed()))

    def _dice(self) -> None:
        self.throw_dice()
        self.edited.emit()

    def _seed_typed(self) -> None:
        self.edited.emit()

    def _number(self, name: str, field: Field) -> QtWidgets.QSpinBox:
        box = QtWidgets.QSpinBox()
        box.setObjectName(name)
        box.setRange(int(field.low), int(field.high))
        box.setSuffix(" " + field.unit if field.unit else "")
        box.valueChanged.connect(lambda value: self.edited.emit())
        self._guard.guard(box)
        return box


class SketchBox(QtWidgets.QComboBox):
    """The layers of the open document, looked up when the list opens: Krita does not tell when they change.

    The layer that the artist chose is chosen again when its document is shown again.
    """

    def __init__(self, layers: Callable[[], list[Layer]]) -> None:
        super().__init__()
        _narrow(self, "lazySketch")
        self._layers = layers
        self._wanted = ""
        self.addItem(tr("None"), "")
        self.currentIndexChanged.connect(lambda index: self._want())

    @property
    def layer(self) -> str:
        """The chosen layer's id; empty where none is."""
        return str(self.currentData() or "")

    def showPopup(self) -> None:
        """Open the list."""
        self.refill()
        super().showPopup()

    def refill(self) -> None:
        """Look the layers up; one that is not there cannot be chosen."""
        was = self.blockSignals(True)
        self.clear()
        self.addItem(tr("None"), "")
        for layer in self._layers():
            self.addItem(layer.name, layer.id)
        self.setCurrentIndex(max(0, self.findData(self._wanted)))
        self.blockSignals(was)

    def _want(self) -> None:
        self._wanted = self.layer


class _SeedValidator(QtGui.QValidator):
    """Whole numbers that a seed can be."""

    def validate(self, text: str, position: int) -> tuple[QtGui.QValidator.State, str, int]:
        """Qt's own hook."""
        state = QtGui.QValidator.State
        if not text:
            return state.Intermediate, text, position
        # Its length first: Python refuses to read a number of thousands of digits.
        good = len(text) <= len(str(MAX_SEED)) and text.isascii() and text.isdigit() and int(text) <= MAX_SEED
        return (state.Acceptable if good else state.Invalid), text, position

    def fixup(self, text: str) -> str:
        """What an empty field means."""
        return text or "0"


def _narrow(box: QtWidgets.QComboBox, name: str) -> QtWidgets.QComboBox:
    """Let a list of long names be as narrow as the docker."""
    box.setObjectName(name)
    box.setSizeAdjustPolicy(QtWidgets.QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
    box.setMinimumContentsLength(8)
    return box
