"""Jointed mannequins: a 3-D skeleton, its poses, and where a scaled-orthographic camera sees it.

Body space has x to the figure's left, y up, z to its front, the pelvis as origin and the figure's height as unit. View
space has x to the right, y *down* and z towards the viewer, so that a joint's first two coordinates are its place in
the picture. Proportions are those of an adult of seven and a half heads; a figure is its segments and nothing else.
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
"""Joint names in the order of every joint axis; "neck" is its base, "head" the crown, l and r the figure's sides."""


@dataclass(frozen=True)
class Segment:
    """One rigid part: a tapered capsule between two joints, `flat` times thinner front to back than side to side.

    Radii are in figure heights. `trim` moves the capsule's centres inwards, by shares of the way between the joints.
    """

    name: str
    start: str
    end: str
    radius_start: float
    radius_end: float
    flat: float = 1.0
    trim: tuple[float, float] = (0.0, 0.0)


SEGMENTS = (
    Segment("neck", "neck", "head", 0.034, 0.031, trim=(0.0, 0.5)),
    Segment("head", "neck", "head", 0.045, 0.056, trim=(0.52, 0.34)),
    Segment("chest", "neck", "waist", 0.110, 0.082, flat=1.55, trim=(0.42, 0.0)),
    Segment("hips", "waist", "pelvis", 0.082, 0.100, flat=1.2, trim=(0.0, 0.35)),
    *(
        Segment(f"{side}_{name}", f"{side}_{start}", f"{side}_{end}", radius_start, radius_end)
        for side in "lr"
        for name, start, end, radius_start, radius_end in (
            ("upper_arm", "shoulder", "elbow", 0.036, 0.028),
            ("forearm", "elbow", "wrist", 0.029, 0.021),
            ("hand", "wrist", "hand", 0.022, 0.019),
            ("thigh", "hip", "knee", 0.052, 0.040),
            ("shin", "knee", "ankle", 0.041, 0.026),
            ("foot", "ankle", "toe", 0.027, 0.021),
        )
    ),
)
"""The sixteen parts of a figure, in the order of every segment axis, each from its proximal joint to its distal one."""

PART = {segment.name: number for number, segment in enumerate(SEGMENTS)}
ENDS = np.array([(JOINTS.index(segment.start), JOINTS.index(segment.end)) for segment in SEGMENTS])
_RADII = np.array([(segment.radius_start, segment.radius_end) for segment in SEGMENTS])

# Mean and spread in degrees. Flexion brings a limb forward, "out" takes it away from the midline; knees bend backwards.
_ANGLES = ("arm_flex", "arm_out", "elbow", "leg_flex", "leg_out", "knee")
_POSES = {
    "stand": ((5, 20), (14, 9), (18, 14), (2, 6), (5, 4), (4, 4)),
    "walk": ((0, 38), (10, 6), (30, 18), (6, 30), (3, 3), (22, 16)),
    "reach": ((60, 55), (75, 45), (25, 20), (5, 14), (13, 9), (8, 8)),
    "sit": ((30, 22), (14, 10), (45, 25), (82, 10), (8, 6), (80, 22)),
    "crouch": ((45, 25), (16, 10), (60, 30), (65, 25), (12, 7), (85, 25)),
}
_POSE_SHARES = (0.3, 0.22, 0.22, 0.16, 0.1)


@dataclass(frozen=True)
class Build:
    """One mannequin's proportions, as multipliers of the thickness of its parts, of its legs and of its shoulders."""

    thickness: float
    legs: float
    shoulders: float

    @classmethod
    def draw(cls, rng: Generator) -> "Build":
        """An adult's proportions."""
        return cls(rng.uniform(0.88, 1.25), rng.uniform(0.94, 1.06), rng.uniform(0.92, 1.12))


@dataclass(frozen=True)
class Figures:
    """K figures in space: `joints` (K, J, 3), `radii` (K, L, 2) of each part's two ends, and `turns` (K, L, 3, 3), each
    part's rotation, whose columns are its side, its upward and its front direction."""

    joints: FloatArray
    radii: FloatArray
    turns: FloatArray

    @classmethod
    def none(cls) -> "Figures":
        """No figure at all: K = 0."""
        parts = len(SEGMENTS)
        return cls(np.zeros((0, len(JOINTS), 3)), np.zeros((0, parts, 2)), np.zeros((0, parts, 3, 3)))

    def scaled(self, factor: float) -> "Figures":
        """The same figures in another unit."""
        return Figures(self.joints * factor, self.radii * factor, self.turns)


def rotation(axis: int, angle_deg: float) -> FloatArray:
    """Right-handed rotation (3, 3) about coordinate axis 0, 1 or 2."""
    c, s = np.cos(np.deg2rad(angle_deg)), np.sin(np.deg2rad(angle_deg))
    first, second = (axis + 1) % 3, (axis + 2) % 3
    matrix = np.eye(3)
    matrix[first, first] = matrix[second, second] = c
    matrix[first, second], matrix[second, first] = -s, s
    return matrix


def pose(rng: Generator, build: Build) -> Figures:
    """One figure in a random pose, in body space."""
    ranges = dict(zip(_ANGLES, list(_POSES.values())[rng.choice(len(_POSES), p=_POSE_SHARES)], strict=True))
    at = {"pelvis": np.zeros(3), "waist": np.array((0, 0.085, 0))}
    turn = {"hips": np.eye(3)}

    def angle(name: str, low: float, high: float) -> float:
        return float(np.clip(rng.normal(*ranges[name]), low, high))

    def chain(side: str, joint: str, here: FloatArray, *steps: tuple[str, str, FloatArray, tuple[float, ...]]) -> None:
        at[f"{side}_{joint}"], heading = here, np.eye(3)
        for part, end, bend, bone in steps:
            heading = heading @ bend
            here = here + heading @ bone
            turn[f"{side}_{part}"], at[f"{side}_{end}"] = heading, here

    spine = rotation(1, rng.normal(0, 12)) @ rotation(0, rng.normal(6, 9)) @ rotation(2, rng.normal(0, 6))
    skull = spine @ rotation(1, rng.normal(0, 20)) @ rotation(0, rng.normal(0, 10))
    turn |= {"chest": spine, "neck": skull, "head": skull}
    at["neck"] = at["waist"] + spine @ (0, 0.185, 0)
    at["head"] = at["neck"] + skull @ (0, 0.165, 0.01)
    for side, sign in (("l", 1), ("r", -1)):
        arm = spine @ rotation(2, sign * angle("arm_out", 4, 170)) @ rotation(0, -angle("arm_flex", -60, 170))
        leg = rotation(2, sign * angle("leg_out", -8, 40)) @ rotation(0, -angle("leg_flex", -25, 115))
        inwards, outwards = rotation(1, -sign * rng.uniform(0, 50)), rotation(1, sign * rng.uniform(0, 20))
        chain(
            side, "shoulder", at["neck"] + spine @ (sign * 0.112 * build.shoulders, -0.022, 0),
            ("upper_arm", "elbow", arm @ inwards, (0, -0.172, 0)),
            ("forearm", "wrist", rotation(0, -angle("elbow", 0, 140)), (0, -0.152, 0)),
            ("hand", "hand", rotation(0, rng.normal(0, 15)), (0, -0.062, 0)),
        )  # fmt: skip
        chain(
            side, "hip", np.array((sign * 0.05, -0.01, 0)),
            ("thigh", "knee", leg @ outwards, (0, -0.245 * build.legs, 0)),
            ("shin", "ankle", rotation(0, angle("knee", 0, 140)), (0, -0.245 * build.legs, 0)),
            ("foot", "toe", rotation(0, rng.normal(0, 8)), (0, -0.028, 0.085)),
        )  # fmt: skip
    joints = np.stack([at[name] for name in JOINTS])
    turns = np.stack([turn[segment.name] for segment in SEGMENTS])
    return Figures(joints[None], _RADII[None] * build.thickness, turns[None])


def look(
    figures: list[Figures], azimuths_deg: FloatArray, positions: FloatArray, elevation_deg: float, roll_deg: float
) -> Figures:
    """The figures together in view space, in figure heights.

    At azimuth 0 a figure faces the camera; at elevation 90 the camera looks straight down. `positions` (K, 3) are in
    the room, whose axes are body space's at azimuth 0.
    """
    view = np.diag((1.0, -1.0, 1.0)) @ rotation(2, roll_deg) @ rotation(0, elevation_deg)
    turns = [view @ rotation(1, azimuth) for azimuth in azimuths_deg]
    shifts = positions @ view.T
    return Figures(
        np.concatenate([f.joints @ turn.T + shift for f, turn, shift in zip(figures, turns, shifts, strict=True)]),
        np.concatenate([f.radii for f in figures]),
        np.concatenate([turn @ f.turns for f, turn in zip(figures, turns, strict=True)]),
    )


def frame(rng: Generator, figures: Figures, zoom: float) -> Figures:
    """The figures in units of the picture's side, from its corner: whole if zoom <= 1, beyond that cut by the frame.

    A cut picture still shows a torso: its centre lies near the line from one of the figures' neck to its pelvis.
    """
    low = figures.joints[..., :2].min((0, 1)) - 0.06
    high = figures.joints[..., :2].max((0, 1)) + 0.06
    scale = zoom / (high - low).max()
    if zoom <= 1:
        corner = rng.uniform(0.0, 1.0, 2) * (1 - scale * (high - low)) - scale * low
    else:
        torso = figures.joints[rng.integers(len(figures.joints)), :, :2]
        pelvis, neck = torso[JOINTS.index("pelvis")], torso[JOINTS.index("neck")]
        corner = rng.uniform(0.35, 0.65, 2) - scale * (neck + rng.uniform(-0.3, 1.3) * (pelvis - neck))
    framed = figures.scaled(float(scale))
    framed.joints[..., :2] += corner
    return framed
