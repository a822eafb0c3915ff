"""The filter of 1996 a second time: its authors' page, sentence by sentence, in plain Python and as slow as that is.

Written from the page alone (mfleck.cs.illinois.edu/naked-skin.html), without a look at `figleaf.skin`, to be compared
with it. What the page leaves open is passed in or said here: planes are rounded to `unit` (0: not at all), a median of
an even number of values is the upper one, discs end at the picture's edge.
"""

import math
from collections.abc import Callable, Iterator

import numpy as np

Plane = list[list[float]]
Neighbours = Callable[[int, int, int, int, float], Iterator[tuple[int, int]]]


def disc_neighbours(y: int, x: int, height: int, width: int, radius: float) -> Iterator[tuple[int, int]]:
    """Pixels of the picture no further than `radius` away."""
    reach = math.floor(radius)
    for row in range(y - reach, y + reach + 1):
        for column in range(x - reach, x + reach + 1):
            inside = 0 <= row < height and 0 <= column < width
            if inside and (row - y) ** 2 + (column - x) ** 2 <= radius**2:
                yield row, column


def square_neighbours(y: int, x: int, height: int, width: int, radius: float) -> Iterator[tuple[int, int]]:
    """A square with the odd side whose area is nearest to the disc's; beyond the edge its pixels are repeated."""
    side = min(range(1, 2 * height + 2 * width, 2), key=lambda odd: abs(odd - math.sqrt(math.pi) * radius))
    for row in range(y - side // 2, y + side // 2 + 1):
        for column in range(x - side // 2, x + side // 2 + 1):
            yield min(max(row, 0), height - 1), min(max(column, 0), width - 1)


def literal_median(plane: Plane, radius: float, neighbours: Neighbours) -> Plane:
    """Every pixel's surroundings sorted, the middle one taken."""
    height, width = len(plane), len(plane[0])
    medians = []
    for y in range(height):
        row = []
        for x in range(width):
            values = sorted(plane[r][c] for r, c in neighbours(y, x, height, width, radius))
            row.append(values[len(values) // 2])
        medians.append(row)
    return medians


def literal_filter(
    rgb_u8: np.ndarray,
    noise: np.ndarray,
    unit: float = 0.25,
    neighbours: Neighbours = disc_neighbours,
    *,
    use_texture: bool = True,
    use_zero: bool = True,
    use_clean_up: bool = True,
    use_relaxed: bool = True,
) -> dict[str, np.ndarray]:
    """Hue, saturation, texture and the masks of a picture (H, W, 3); `noise` (H, W, 3) is what is added to it."""
    height, width, _ = rgb_u8.shape
    pixels = range(height), range(width)

    # "The zero-response of the camera is estimated as the smallest value in any of the three color planes, omitting
    # locations within 10 pixels of the image edges. This value is subtracted from each R, G, and B value."
    inner = [
        int(rgb_u8[y, x, plane]) for y in range(10, height - 10) for x in range(10, width - 10) for plane in range(3)
    ]
    zero = min(inner) if inner and use_zero else 0

    # "L(x) = 105*log10(x+1+n), I = L(G), Rg = L(R) - L(G), By = L(B) - (L(G) + L(R))/2"
    def planes(combine: Callable[[float, float, float], float]) -> Plane:
        found = []
        for y in pixels[0]:
            row = []
            for x in pixels[1]:
                logs = [
                    105 * math.log10(max(0, int(rgb_u8[y, x, c]) - zero) + 1 + float(noise[y, x, c])) for c in range(3)
                ]
                value = combine(*logs)
                row.append(round(value / unit) * unit if unit else value)
            found.append(row)
        return found

    intensity = planes(lambda red, green, blue: green)
    rg = planes(lambda red, green, blue: red - green)
    by = planes(lambda red, green, blue: blue - (green + red) / 2)

    # "SCALE is the sum of the height and the width of the image (in pixels), divided by 320."
    scale = (height + width) / 320

    # "The Rg and By arrays are smoothed with a median filter of radius 2*SCALE, to reduce noise."
    rg, by = literal_median(rg, 2 * scale, neighbours), literal_median(by, 2 * scale, neighbours)

    # "To compute texture amplitude, the intensity image was smoothed with a median filter of radius 4*SCALE. The result
    # was subtracted from the original image. The absolute values of these differences are then run through a second
    # median filter of radius 6*SCALE."
    smooth = literal_median(intensity, 4 * scale, neighbours)
    differences = [[abs(intensity[y][x] - smooth[y][x]) for x in pixels[1]] for y in pixels[0]]
    texture = literal_median(differences, 6 * scale, neighbours)

    # "define the hue at a pixel to be atan(Rg,By) [...] The saturation at the pixel is sqrt(Rg^2 + By^2)."
    hue = [[math.degrees(math.atan2(rg[y][x], by[y][x])) for x in pixels[1]] for y in pixels[0]]
    saturation = [[math.sqrt(rg[y][x] ** 2 + by[y][x] ** 2) for x in pixels[1]] for y in pixels[0]]

    # "all pixels whose texture amplitude is no larger than 5, and (a) whose hue is between 110 and 150 and whose
    # saturation is between 20 and 60 or (b) whose hue is between 130 and 170 and whose saturation is between 30 and
    # 130."
    tight = np.zeros((height, width), bool)
    for y in pixels[0]:
        for x in pixels[1]:
            smooth_enough = not use_texture or texture[y][x] <= 5
            a = 110 < hue[y][x] < 150 and 20 < saturation[y][x] < 60
            b = 130 < hue[y][x] < 170 and 30 < saturation[y][x] < 130
            tight[y, x] = smooth_enough and (a or b)

    # "a pixel is marked in the final map if at least one eighth of the pixels in a circular neighborhood of radius
    # 24*SCALE pixels are marked in the original map."
    cleaned = tight.copy()
    if use_clean_up:
        for y in pixels[0]:
            for x in pixels[1]:
                marks = [tight[r, c] for r, c in disc_neighbours(y, x, height, width, 24 * scale)]
                cleaned[y, x] = sum(marks) * 8 >= len(marks)

    skin = cleaned.copy()
    if use_relaxed:
        for y in pixels[0]:
            for x in pixels[1]:
                skin[y, x] &= 110 <= hue[y][x] <= 180 and 0 <= saturation[y][x] <= 130
    return {
        "hue": np.array(hue),
        "saturation": np.array(saturation),
        "texture": np.array(texture),
        "tight": tight,
        "cleaned": cleaned,
        "skin": skin,
    }
