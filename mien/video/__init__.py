"""Films: frames in, tracked and smoothed Results out, in constant memory.

from mien.video import analyze_video
for result in analyze_video("film.mp4", every=2):
    print(result.time, [(face.track, face.steady) for face in result.faces])
"""

from __future__ import annotations
