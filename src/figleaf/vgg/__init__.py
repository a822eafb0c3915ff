"""The VGG family: network, weights in and out, cost."""
