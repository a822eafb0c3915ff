"""From a file of weights to the scorer that they make: a network's, or a skin system's."""

from pathlib import Path

from figleaf.evaluate.scorer import Scorer


def scorer_of(path: Path, device: str = "cpu") -> Scorer:
    """The scorer in a safetensors file of `figleaf train` or `figleaf export`; skin systems ignore the device.

    Raises `FigleafError` for any other file.
    """
    # Each needs libraries that take seconds to import, and the other does not.
    from figleaf.skin.storage import is_system

    if is_system(path):
        from figleaf.skin.scorer import SkinScorer

        return SkinScorer.load(path)
    from figleaf.vgg.scorer import TorchScorer

    return TorchScorer.load(path, device)
