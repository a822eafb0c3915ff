"""Pictures that are the same, byte for byte or to the eye.

Two pictures are near duplicates when their perceptual hashes (DCT, 64 bits; Zauner 2010) differ in at most 6 bits *and*
their thumbnails agree. The second test is needed because the hash of a plain wall or sky is mostly noise.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import imagehash
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from figleaf.data.decode import RgbU8, resize
from figleaf.progress import track

NEAR_BITS = 6
# On 200 photographs: re-encoded, rescaled or recoloured, 99 % correlate above this; cropped by 2 % a side, 96 %.
_CORRELATION = 0.95
# Plain pictures correlate by chance or not at all; the same one saved twice differs by less than this, of 255 levels.
_SAME_LEVELS = 1.0
_THUMBNAIL = 16
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # as Pillow turns grey, so that a grey copy correlates
_BLOCK_PAIRS = 1 << 22
_CHUNK_PAIRS = 1 << 13


@dataclass(frozen=True)
class Look:
    """What a picture looks like, in little: perceptual hash (64 bits) and thumbnail uint8 (16, 16, 3)."""

    phash: int
    thumbnail: RgbU8

    @classmethod
    def of(cls, rgb_u8: RgbU8) -> "Look":
        """The look of a picture (H, W, 3)."""
        bits = np.packbits(imagehash.phash(Image.fromarray(rgb_u8)).hash)
        return cls(int.from_bytes(bits.tobytes(), "big"), resize(rgb_u8, _THUMBNAIL))


def same_content(sha256: Sequence[str]) -> NDArray[np.int64]:
    """A number (N,) for each picture that those of equal hash share: 0 to the number of hashes less 1."""
    return np.unique(np.asarray(sha256, dtype=str), return_inverse=True)[1].astype(np.int64)


def same_look(looks: Sequence[Look]) -> NDArray[np.int64]:
    """A number (N,) for each picture that near duplicates share, directly or through others between them.

    Compares all pairs in blocks of machine words: a second for 20,000 pictures, and the square of that for more.
    """
    count = len(looks)
    clusters = np.arange(count)
    if count < 2:
        return clusters
    hashes = np.array([look.phash for look in looks], np.uint64)
    colors = np.stack([look.thumbnail for look in looks]).reshape(count, -1).astype(np.float32)
    structure = _standardised(colors)
    step = max(1, _BLOCK_PAIRS // count)
    for start in track(range(0, count - 1, step), "Comparing", -(-(count - 1) // step)):
        block = hashes[start : start + step]
        row, column = np.nonzero(np.bitwise_count(block[:, None] ^ hashes[start:]) <= NEAR_BITS)
        one, other = row + start, column + start
        open_pairs = np.flatnonzero((one < other) & (clusters[one] != clusters[other]))
        for chunk in np.split(open_pairs, range(_CHUNK_PAIRS, len(open_pairs), _CHUNK_PAIRS)):
            i, j = one[chunk], other[chunk]
            alike = (structure[i] * structure[j]).sum(axis=1) >= _CORRELATION
            equal = np.abs(colors[i] - colors[j]).mean(axis=1) < _SAME_LEVELS
            clusters = _merged(clusters, i[alike | equal], j[alike | equal])
    return clusters


def _standardised(colors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Grey thumbnails (N, 256) with mean 0 and norm 1, so that brightness and contrast do not matter; plain ones 0."""
    grey: NDArray[np.float32] = colors.reshape(len(colors), -1, 3) @ _LUMA
    grey -= grey.mean(axis=1, keepdims=True)
    norm = np.linalg.norm(grey, axis=1, keepdims=True)
    np.divide(grey, norm, out=grey, where=norm > 0)
    return grey


def _merged(clusters: NDArray[np.int64], one: NDArray[np.int64], other: NDArray[np.int64]) -> NDArray[np.int64]:
    """The clusters after joining those of the pairs given."""
    if not len(one):
        return clusters
    count = len(clusters)
    rows, columns = np.concatenate([one, np.arange(count)]), np.concatenate([other, clusters])
    graph = coo_array((np.ones(len(rows), np.bool_), (rows, columns)), shape=(count, count))
    labels = connected_components(graph, directed=False)[1]
    first = np.unique(labels, return_index=True)[1]  # named by its first row, so that a name is a row again
    return first[labels]
