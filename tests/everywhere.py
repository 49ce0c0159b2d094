"""Exported and stored models, against the model itself."""

import copy
import pickle

import numpy as np
import onnxruntime
import skops.io
import torch

from skgn.export import to_onnx, to_torch
from skgn.persistence import SKOPS_TRUSTED


def assert_the_same_everywhere(model, X, path):
    """Probabilities of rows X are those of the model in torch, in ONNX (written to a path) and in files."""
    expected = model.predict_proba(X)
    np.testing.assert_allclose(to_torch(model)(torch.tensor(X)).detach(), expected, rtol=0, atol=1e-12)
    to_onnx(model, path)
    np.testing.assert_allclose(onnxruntime.InferenceSession(path).run(None, {"X": X})[1], expected, rtol=0, atol=1e-12)
    for loaded in (
        pickle.loads(pickle.dumps(model)),
        copy.deepcopy(model),
        skops.io.loads(skops.io.dumps(model), trusted=SKOPS_TRUSTED),
    ):
        np.testing.assert_array_equal(loaded.predict_proba(X), expected)
