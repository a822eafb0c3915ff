"""A network's architecture in words, for cards and pages."""

from figleaf.vgg.network import CONVOLUTIONS_PER_STAGE, STAGE_CHANNELS, VGG, scaled_channels


def described(net: VGG) -> str:
    """Depth, batch norm, width and what compression has left, such as `VGG16, 0.5 times the published width`."""
    parts = [
        f"VGG{net.depth}{' with batch norm' if net.batch_norm else ''}",
        f"{net.width:g} times the published width",
    ]
    if net.channels is not None:
        counts = CONVOLUTIONS_PER_STAGE[net.depth]
        whole = sum(
            count * scaled_channels(full, net.width) for count, full in zip(counts, STAGE_CHANNELS, strict=True)
        )
        parts.append(f"{sum(net.channels)} of {whole} channels")
    if net.fc_features is not None:
        parts.append(f"hidden layers of {net.fc_features[0]} and {net.fc_features[1]} features")
    if net.fc_ranks is not None:
        named = [f"fc{number} of rank {rank}" for number, rank in enumerate(net.fc_ranks, start=1) if rank]
        parts += [" and ".join(named)] * bool(named)
    return ", ".join(parts)
