"""Export of fitted estimators, as a torch module or as an ONNX model."""

from .modules import to_torch
from .onnx_model import to_onnx

__all__ = ["to_onnx", "to_torch"]
