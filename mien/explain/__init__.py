"""Which parts of a face an answer rests on: occlusion maps for any model, Grad-CAM for torch."""

from __future__ import annotations

from mien.explain.mean import MeanMaps, mean_maps
from mien.explain.occlusion import occlusion_maps
from mien.explain.photo import Explanation, explain_faces, explain_photo

__all__ = [
    "Explanation",
    "MeanMaps",
    "explain_faces",
    "explain_photo",
    "mean_maps",
    "occlusion_maps",
]
