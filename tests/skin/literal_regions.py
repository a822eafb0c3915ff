"""Ap-apid's measurements a second time, in plain Python, as the paper's list of steps tells them."""

import numpy as np

Point = tuple[int, int]


def literal_regions(skin: np.ndarray) -> list[list[Point]]:
    """8-connected regions as lists of (y, x), found in reading order by a walk from pixel to pixel."""
    height, width = skin.shape
    left = {(y, x) for y in range(height) for x in range(width) if skin[y, x]}
    regions = []
    for start in sorted(left):
        if start not in left:
            continue
        left.remove(start)
        region, waiting = [], [start]
        while waiting:
            y, x = waiting.pop()
            region.append((y, x))
            for neighbour in [(y + dy, x + dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)]:
                if neighbour in left:
                    left.remove(neighbour)
                    waiting.append(neighbour)
        regions.append(sorted(region))
    return regions


def cross(o: Point, a: Point, b: Point) -> int:
    return (a[0] - o[0]) * (b[1] - o[1]) - (a[1] - o[1]) * (b[0] - o[0])


def literal_polygon(regions: list[list[Point]]) -> set[Point]:
    """Pixels in or on the convex hull (Andrew's monotone chain) of four outermost pixels of each region."""
    corners = set()
    for region in regions:
        corners |= {
            min(region, key=lambda p: (p[1], p[0])),
            min(region, key=lambda p: (-p[1], p[0])),
            min(region),
            min(region, key=lambda p: (-p[0], p[1])),
        }
    points = sorted(corners)

    def chain(ordered: list[Point]) -> list[Point]:
        hull: list[Point] = []
        for point in ordered:
            while len(hull) >= 2 and cross(hull[-2], hull[-1], point) <= 0:
                hull.pop()
            hull.append(point)
        return hull[:-1]

    hull = chain(points) + chain(points[::-1]) if len(points) > 1 else points
    rows, columns = [p[0] for p in points], [p[1] for p in points]
    box = [(y, x) for y in range(min(rows), max(rows) + 1) for x in range(min(columns), max(columns) + 1)]
    return {p for p in box if all(cross(a, b, p) >= 0 for a, b in zip(hull, hull[1:] + hull[:1], strict=True))}


def literal_is_nude(rgb_u8: np.ndarray, skin: np.ndarray) -> bool:
    """Step 16 of the paper, a to f."""
    regions = sorted(literal_regions(skin), key=len, reverse=True)
    total = sum(len(region) for region in regions)
    if total / skin.size < 0.15:
        return False
    first, second, third = ([len(region) / total for region in regions] + [0, 0, 0])[:3]
    if first < 0.35 and second < 0.30 and third < 0.30:
        return False
    if first < 0.45:
        return False
    polygon = literal_polygon(regions[:3])
    inside = sum(bool(skin[pixel]) for pixel in polygon)
    if total / skin.size < 0.30 and inside / len(polygon) < 0.55:
        return False
    intensity = sum(int(value) for pixel in polygon for value in rgb_u8[pixel]) / (3 * 255 * len(polygon))
    return not (len(regions) > 60 and intensity < 0.25)
