"""Jointed mannequins: a 3-D skeleton, its poses, and its picture under a scaled-orthographic camera.

Body space: x to the figure's left, y up, z to its front; the unit is the figure's height, the origin its pelvis. View space: x
right, y *down*, z towards the viewer, in pixels, so that a joint's first two coordinates are its place in the picture.
Proportions are those of an adult of seven and a half heads. There is no detail beyond the segments.
"""

from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]

JOINTS = (
    "pelvis", "waist", "neck", "head",
    "l_shoulder", "l_elbow", "l_wrist", "l_hand", "r_shoulder", "r_elbow", "r_wrist", "r_hand",
    "l_hip", "l_knee", "l_ankle", "l_toe", "r_hip", "r_knee", "r_ankle", "r_toe",
)  # fmt: skip
"""Joint names in the order of `Scene.joints`' second axis."""


@dataclass(frozen=True)
class Segment:
    """One rigid part: a tapered capsule between two joints, `flat` times thinner front to back.

    Radii are in figure heights; `trim` moves the capsule's two centres inwards by shares of the distance between the joints.
    """

    name: str
    start: str
    end: str
    radius_start: float
    radius_end: float
    flat: float = 1.0
    trim: tuple[float, float] = (0.0, 0.0)

    @property
    def ends(self) -> tuple[int, int]:
        """Indices of its two joints in `JOINTS`, proximal first."""
        return JOINTS.index(self.start), JOINTS.index(self.end)


SEGMENTS = (
    Segment("neck", "neck", "head", 0.034, 0.031, trim=(0.0, 0.5)),
    Segment("head", "neck", "head", 0.045, 0.056, trim=(0.52, 0.34)),
    Segment("chest", "neck", "waist", 0.110, 0.082, flat=1.55, trim=(0.42, 0.0)),
    Segment("hips", "waist", "pelvis", 0.082, 0.098, flat=1.35, trim=(0.0, 0.45)),
    *(
        Segment(f"{side}_{name}", f"{side}_{start}", f"{side}_{end}", radius_start, radius_end)
        for side in "lr"
        for name, start, end, radius_start, radius_end in (
            ("upper_arm", "shoulder", "elbow", 0.036, 0.028),
            ("forearm", "elbow", "wrist", 0.029, 0.021),
            ("hand", "wrist", "hand", 0.022, 0.019),
            ("thigh", "hip", "knee", 0.057, 0.040),
            ("shin", "knee", "ankle", 0.041, 0.026),
            ("foot", "ankle", "toe", 0.027, 0.021),
        )
    ),
)
"""The sixteen parts of a figure, in the order of the segment axis everywhere."""

ENDS = np.array([segment.ends for segment in SEGMENTS])
RADII = np.array([(segment.radius_start, segment.radius_end) for segment in SEGMENTS])
TRIMS = np.array([segment.trim for segment in SEGMENTS])
FLATNESS = np.array([segment.flat for segment in SEGMENTS])

# Degrees, (mean, spread) per angle; flexion brings a limb forward, abduction away from the midline, twist turns it about itself.
_POSES: dict[str, dict[str, tuple[float, float]]] = {
    "stand": {"arm_flex": (5, 20), "arm_out": (14, 9), "elbow": (18, 14), "leg_flex": (2, 6), "leg_out": (5, 4), "knee": (4, 4)},
    "walk": {"arm_flex": (0, 38), "arm_out": (10, 6), "elbow": (30, 18), "leg_flex": (6, 30), "leg_out": (3, 3), "knee": (22, 16)},
    "reach": {"arm_flex": (60, 55), "arm_out": (75, 45), "elbow": (25, 20), "leg_flex": (5, 14), "leg_out": (13, 9), "knee": (8, 8)},
    "sit": {"arm_flex": (30, 22), "arm_out": (14, 10), "elbow": (45, 25), "leg_flex": (82, 10), "leg_out": (8, 6), "knee": (80, 22)},
    "crouch": {"arm_flex": (45, 25), "arm_out": (16, 10), "elbow": (60, 30), "leg_flex": (65, 25), "leg_out": (12, 7), "knee": (85, 25)},
}  # fmt: skip
_POSE_WEIGHTS = (0.3, 0.22, 0.22, 0.16, 0.1)


@dataclass(frozen=True)
class Build:
    """One mannequin's proportions: multipliers of the width of all parts, of the legs' length and of the shoulders' width."""

    width: float
    legs: float
    shoulders: float


@dataclass(frozen=True)
class Posed:
    """Figures in space: `joints` (K, J, 3), one rotation per segment `frames` (K, L, 3, 3) with columns side, up, front, and `radii` (K, L, 2)."""

    joints: FloatArray
    frames: FloatArray
    radii: FloatArray


def rotation(axis: int, angle_deg: float) -> FloatArray:
    """Right-handed rotation (3, 3) about coordinate axis 0, 1 or 2."""
    c, s = np.cos(np.deg2rad(angle_deg)), np.sin(np.deg2rad(angle_deg))
    first, second = (axis + 1) % 3, (axis + 2) % 3
    matrix = np.eye(3)
    matrix[first, first] = matrix[second, second] = c
    matrix[first, second], matrix[second, first] = -s, s
    return matrix


def pose(rng: Generator, build: Build) -> Posed:
    """One figure (K = 1) in a random pose, in body space."""
    angles = _POSES[str(rng.choice(list(_POSES), p=_POSE_WEIGHTS))]
    joints = np.zeros((len(JOINTS), 3))
    frames = np.tile(np.eye(3), (len(SEGMENTS), 1, 1))
    place = {name: number for number, name in enumerate(JOINTS)}
    part = {segment.name: number for number, segment in enumerate(SEGMENTS)}

    spine = rotation(1, rng.normal(0, 12)) @ rotation(0, rng.normal(6, 9)) @ rotation(2, rng.normal(0, 6))
    head = spine @ rotation(1, rng.normal(0, 20)) @ rotation(0, rng.normal(0, 10))
    joints[place["waist"]] = (0, 0.085, 0)
    joints[place["neck"]] = joints[place["waist"]] + spine @ (0, 0.185, 0)
    joints[place["head"]] = joints[place["neck"]] + head @ (0, 0.165, 0.01)
    frames[[part["neck"], part["head"]]], frames[part["chest"]] = head, spine

    def angle(name: str) -> float:
        return float(rng.normal(*angles[name]))

    def chain(
        side: str, start: str, frame: FloatArray, steps: tuple[tuple[str, str, FloatArray, FloatArray], ...]
    ) -> None:
        here = joints[place[f"{side}_{start}"]]
        for joint, segment, bend, bone in steps:
            frame = frame @ bend
            here = here + frame @ bone
            joints[place[f"{side}_{joint}"]], frames[part[f"{side}_{segment}"]] = here, frame

    for side, sign in (("l", 1.0), ("r", -1.0)):
        joints[place[f"{side}_shoulder"]] = joints[place["neck"]] + spine @ (sign * 0.112 * build.shoulders, -0.022, 0)
        joints[place[f"{side}_hip"]] = (sign * 0.05, -0.015, 0)
        arm = spine @ rotation(2, sign * max(4.0, angle("arm_out"))) @ rotation(0, -angle("arm_flex"))
        leg = rotation(2, sign * angle("leg_out")) @ rotation(0, -np.clip(angle("leg_flex"), -25, 115))
        chain(side, "shoulder", arm, (
            ("elbow", "upper_arm", rotation(1, -sign * rng.uniform(0, 50)), np.array((0, -0.172, 0))),
            ("wrist", "forearm", rotation(0, -np.clip(angle("elbow"), 0, 140)), np.array((0, -0.152, 0))),
            ("hand", "hand", rotation(0, rng.normal(0, 15)), np.array((0, -0.062, 0))),
        ))  # fmt: skip
        chain(side, "hip", leg, (
            ("knee", "thigh", rotation(1, sign * rng.uniform(0, 20)), np.array((0, -0.245 * build.legs, 0))),
            ("ankle", "shin", rotation(0, np.clip(angle("knee"), 0, 140)), np.array((0, -0.245 * build.legs, 0))),
            ("toe", "foot", rotation(0, rng.normal(0, 8)), np.array((0, -0.028, 0.085))),
        ))  # fmt: skip
    return Posed(joints[None], frames[None], RADII[None] * build.width)


@dataclass(frozen=True)
class Camera:
    """A scaled-orthographic camera: elevation from -90 (from below) to 90 (from above), roll, and a window onto the view plane."""

    elevation_deg: float
    roll_deg: float

    def look(self, figures: list[Posed], azimuths_deg: FloatArray, positions: FloatArray) -> Posed:
        """The figures together in view space, still in figure heights: azimuth 0 faces the camera; positions (K, 3) are in the room."""
        room_to_view = rotation(2, self.roll_deg) @ rotation(0, self.elevation_deg)
        flip = np.diag((1.0, -1.0, 1.0))
        turns = [flip @ room_to_view @ rotation(1, azimuth) for azimuth in azimuths_deg]
        shifts = positions @ (flip @ room_to_view).T
        return Posed(
            np.concatenate([f.joints @ turn.T + shift for f, turn, shift in zip(figures, turns, shifts, strict=True)]),
            np.concatenate([turn @ f.frames for f, turn in zip(figures, turns, strict=True)]),
            np.concatenate([f.radii for f in figures]),
        )


def frame(rng: Generator, posed: Posed, size: int, zoom: float) -> Posed:
    """The figures in pixels of a (size, size) picture: all of them fit when zoom <= 1, beyond that the frame cuts some off."""
    low = posed.joints[..., :2].min((0, 1)) - 0.06
    high = posed.joints[..., :2].max((0, 1)) + 0.06
    scale = zoom / (high - low).max()
    slack = 1.0 - scale * (high - low)
    if zoom <= 1:
        corner = slack * rng.uniform(0.0, 1.0, 2)
    else:  # keep a torso in the picture: the window's centre stays near one of them
        neck, pelvis = posed.joints[
            rng.integers(len(posed.joints)),
            [
                JOINTS.index("neck"),
                JOINTS.index("pelvis"),
            ],
        ][:, :2]
        focus = neck + rng.uniform(-0.3, 1.3) * (pelvis - neck)
        corner = rng.uniform(0.35, 0.65, 2) - scale * (focus - low)
    joints = posed.joints * scale
    joints[..., :2] += corner - scale * low
    return Posed(joints * size, posed.frames, posed.radii * scale * size)
