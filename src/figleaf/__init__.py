"""figleaf: a laboratory for SFW/NSFW image classifiers."""

import os

__version__ = "0.1.0"

# No telemetry. These are read by libraries when they are imported, so they are set before any of them can be:
# albumentations asks the package index for its version, MLflow looks for a telemetry host, onnxruntime writes an id.
for _name, _value in {
    "NO_ALBUMENTATIONS_UPDATE": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "ORT_DISABLE_TELEMETRY": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    # pickle is never read from outside, nor by the tracker's model loaders
    "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
}.items():
    os.environ.setdefault(_name, _value)
