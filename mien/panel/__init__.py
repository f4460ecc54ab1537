"""The photo panel: how a model and its detector do on photos that nothing was tuned on."""

from mien.panel.conditions import CONDITIONS, VERSION
from mien.panel.report import document, write_panel
from mien.panel.run import Answer, PanelReport, ask_analyzer, run_panel
from mien.panel.sets import HALVES, PanelSet, load_sets, read_class_folders

__all__ = [
    "CONDITIONS",
    "HALVES",
    "VERSION",
    "Answer",
    "PanelReport",
    "PanelSet",
    "ask_analyzer",
    "document",
    "load_sets",
    "read_class_folders",
    "run_panel",
    "write_panel",
]
