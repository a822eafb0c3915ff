"""The embedded data set: abstract jointed mannequins before backgrounds in the colours of skin, drawn from a seed."""

from figleaf.data.scenes.scene import CLASSES, MARGIN, SERIES, THRESHOLD, UNSAFE, Scene, render
from figleaf.data.scenes.skeleton import JOINTS, SEGMENTS, Segment

__all__ = ["CLASSES", "JOINTS", "MARGIN", "SEGMENTS", "SERIES", "THRESHOLD", "UNSAFE", "Scene", "Segment", "render"]
