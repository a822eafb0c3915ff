"""Imports everything a trial needs: preloaded once by the server that trials are forked from.

A cold start costs ten to twenty seconds of imports, a fork of the warm server a few tenths.
"""

import mlflow.store.tracking.sqlalchemy_store
import pytorch_lightning
import torch

import figleaf.evaluate.figures
import figleaf.train.task

__all__ = ["figleaf", "mlflow", "pytorch_lightning", "torch"]
