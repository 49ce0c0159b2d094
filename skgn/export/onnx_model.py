"""A fitted estimator as an ONNX model: torch's own exporter translates the graph of its torch module.

This module adds what torch does not know: labels, and metadata about the model.
"""

from __future__ import annotations

import importlib.util
import json
import logging
import os
import shutil
import stat
import string
import uuid
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.utils.fixes import parse_version

from ..classifier import GNClassifier
from ..mixed_members import posteriors
from ..regressor import GNRegressor
from .modules import ClassifierModule, RegressorModule, check_exportable, to_torch

__all__ = ["to_onnx"]

#: The oldest torch whose files pass the tests. Earlier ones want a fixed number of rows.
_LOWEST_TORCH = "2.9"

#: The oldest set of operators that torch's exporter makes, of 2022.
_OPSET = 18

#: Largest size of a file of Protocol Buffers, minus room for the graph.
_LARGEST_FILE = 2**31 - 2**26

#: Operators that onnxruntime does not have in float64.
_FLOAT32_ONLY = ("Erf", "Conv", "ConvTranspose")

_DTYPES = {"float64": torch.float64, "float32": torch.float32}


def to_onnx(
    estimator: GNRegressor | GNClassifier,
    path: str | os.PathLike[str],
    *,
    return_std: bool | None = None,
    dtype: str = "float64",
) -> None:
    """Write a fitted estimator to an ONNX file that contains everything from rows to predictions.

    The input "X" (n_samples, n_features) has any number of rows, as for :func:`to_torch`: nan for missing cells, codes
    for categories. The outputs of a regressor are "y_mean" and, with a standard deviation, "y_std", in the shapes of
    ``predict``. The outputs of a classifier are "label" and "probabilities", as from ``predict`` and ``predict_proba``.
    Labels are int64, double or string. The metadata of the model are JSON: "feature_names", "classes" and "levels".
    "levels" has the levels of each category, by the name of its feature and in the order of their codes.

    Parameters
    ----------
    estimator : GNRegressor or GNClassifier
        A fitted estimator, also of ``skgn.dask``.
    path : str or path-like
        Name of the file. An earlier file is replaced once the new one is complete; its mode is kept, and of a link the
        file that it leads to is replaced.
    return_std : bool, default=None
        Whether a regressor has the output "y_std". None writes it if ``predict`` has a standard deviation, except with
        ``network=``. For each member it takes 8 bytes for each pair of weights. With ``solver_`` "dual" it takes 8
        bytes for each pair of training samples (of samples times outputs).
    dtype : {"float64", "float32"}, default="float64"
        Type of X and of the results. All computations are in float64.

    Raises
    ------
    TypeError
        If the estimator does not belong to this package, if ``return_std=True`` is asked of a classifier, or if its
        classes are neither numbers nor strings, or integers beyond int64.
    sklearn.exceptions.NotFittedError
        If the estimator is not fitted.
    ImportError
        If the packages onnx and onnxscript are missing, or torch is older than 2.9.
    OSError
        If the folder of ``path`` does not exist (FileNotFoundError), the name is too long, or something else than a
        regular file is there, such as a folder.
    ValueError
        If ``return_std=True`` and there is no standard deviation, or the network is your own. If ``dtype`` is not one
        of the two, or cannot tell apart numbers that are codes. If the model exceeds the 2 GB that such a file can
        have. All errors come before anything is written, also torch's errors about a network of your own that it cannot
        translate.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> import onnxruntime
    >>> from sklearn.datasets import load_diabetes
    >>> from skgn import GNRegressor
    >>> from skgn.export import to_onnx
    >>> X, y = load_diabetes(return_X_y=True)
    >>> model = GNRegressor(n_estimators=1, random_state=0).fit(X, y)
    >>> path = Path(tempfile.mkdtemp()) / "diabetes.onnx"
    >>> to_onnx(model, path)
    >>> mean, std = onnxruntime.InferenceSession(path).run(None, {"X": X})
    >>> print(abs(mean - model.predict(X)).max() < 1e-5 * abs(mean).max())
    True
    """
    check_exportable(estimator)
    if dtype not in _DTYPES:
        raise ValueError(f"dtype must be one of {sorted(_DTYPES)}, got {dtype!r}.")
    target = _regular_file(path)
    labels = _labels(estimator)
    module = to_torch(estimator, return_std=_wants_std(estimator, return_std))
    missing = [name for name in ("onnx", "onnxscript") if importlib.util.find_spec(name) is None]
    if missing:
        raise ImportError(f"to_onnx needs {' and '.join(missing)}: pip install 'skgn[onnx]'")
    if parse_version(torch.__version__) < parse_version(_LOWEST_TORCH):
        raise ImportError(f"to_onnx needs torch {_LOWEST_TORCH} or newer, got {torch.__version__}.")
    _check_size(module)
    _check_codes(module, _DTYPES[dtype])
    model = _translate(module, _DTYPES[dtype])
    if labels is not None and isinstance(module, ClassifierModule):
        _add_labels(model, labels, module.multilabel)
    _write(model, _metadata(estimator), target)


def _regular_file(path: str | os.PathLike[str]) -> Path:
    """Return the file that ``path`` leads to, over links; it is a regular file, or not there yet."""
    target = Path(os.path.realpath(path))
    try:
        regular = stat.S_ISREG(target.stat().st_mode)
    except FileNotFoundError:
        regular = True
    except OSError as error:
        # Too long a name, links in a circle, a file in the place of a folder.
        raise OSError(error.errno, f"{error.strerror}: path cannot be written to", os.fspath(path)) from error
    if not regular:
        raise OSError(f"path={os.fspath(path)!r} is no regular file, and is left as it is.")
    if not target.parent.is_dir():
        raise FileNotFoundError(f"The folder of path={os.fspath(path)!r} does not exist.")
    return target


def _check_size(module: RegressorModule | ClassifierModule) -> None:
    size = sum(values.numel() * values.element_size() for values in module.state_dict().values())
    if size > _LARGEST_FILE:
        raise ValueError(
            f"The model would take {size / 2**30:.1f} GB, and an ONNX file holds 2 GB; return_std=False leaves the "
            "posterior out, which is the most of it."
        )


def _wants_std(estimator: GNRegressor | GNClassifier, return_std: bool | None) -> bool:
    """Whether to write "y_std". For None: whether there is a standard deviation that ONNX can have."""
    if not estimator.estimators_[0].network.exports_jacobian:
        if return_std:
            raise ValueError(
                "return_std=True needs the Jacobian, and that of network= is found in a way that torch does not "
                "translate to ONNX: to_torch(estimator, return_std=True) has it."
            )
        return False
    if return_std is not None or isinstance(estimator, GNClassifier):
        return bool(return_std)
    try:
        posteriors(estimator)
    except ValueError:
        return False
    return True


def _labels(estimator: GNRegressor | GNClassifier) -> np.ndarray | None:
    """Convert the classes to a type that ONNX has: int64, float64, or objects that are strings."""
    if not isinstance(estimator, GNClassifier):
        return None
    classes = estimator.classes_
    if classes.dtype.kind in "biu":
        if int(classes.max()) > np.iinfo(np.int64).max:
            raise TypeError(
                f"ONNX has labels of int64, which ends at {np.iinfo(np.int64).max}, got the label {classes.max()}: fit "
                "with smaller numbers, or with strings."
            )
        return classes.astype(np.int64)
    if classes.dtype.kind == "f":
        return classes.astype(np.float64)
    if all(isinstance(label, str) for label in classes.tolist()):
        return classes.astype(object)
    raise TypeError(f"ONNX has labels that are numbers or strings, got classes_ of dtype {classes.dtype}.")


def _check_codes(module: RegressorModule | ClassifierModule, dtype: torch.dtype) -> None:
    """Refuse a type of X in which a number that is a code would be another number."""
    for i, j in enumerate(module.encoder.looked_up):
        numbers = getattr(module.encoder, f"numbers{i}")
        if not torch.equal(numbers.to(dtype).to(numbers.dtype), numbers):
            raise ValueError(
                f'dtype="float32" cannot tell the numbers of feature {j} apart, which are codes up to '
                f'{numbers[numbers.isfinite()].max():.0f}; use dtype="float64".'
            )


def _translate(module: RegressorModule | ClassifierModule, dtype: torch.dtype) -> Any:
    """Translate the module to an ONNX model of X."""
    names = ["probabilities"]
    if not isinstance(module, ClassifierModule):
        names = ["y_mean", "y_std"][: 1 + module.return_std]
    example = torch.zeros(2, module.n_features_in_, dtype=dtype, device="cpu")
    with _quiet(), torch.no_grad():
        module(example)  # A network of one's own makes its copy of the module here, where it is not traced.
        # An error if the number of rows cannot be any: torch.onnx.export by itself would fix it.
        program = torch.export.export(module, (example,), dynamic_shapes=({0: torch.export.Dim("n_samples")},))
        translated = torch.onnx.export(
            program, dynamo=True, opset_version=_OPSET, input_names=["X"], output_names=names, verbose=False
        )
    model = translated.model_proto  # type: ignore[union-attr]  # None only if torch writes a file
    _replace_operators(model.graph)
    # The exporter has a name of its own for the number of rows, also in the shapes within, which are of no use.
    del model.graph.value_info[:]
    for value in [*model.graph.input, *model.graph.output]:
        value.type.tensor_type.shape.dim[0].dim_param = "n_samples"
    return model


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence what torch and onnxscript say about their own insides."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript")]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        with warnings.catch_warnings():
            # torch 2.13 copies a class that it has deprecated.
            warnings.filterwarnings("ignore", r"`isinstance\(treespec, LeafSpec\)` is deprecated", FutureWarning)
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _replace_operators(graph: Any) -> None:
    """Replace operators that onnxruntime does not have in float64, or that one of its versions gets wrong.

    Erf (of the activation "gelu") and convolutions (of a network of one's own) are taken in float32, with an error of
    1e-7. Cos becomes a shifted Sin, because versions before 1.25 have no Cos. These versions also turn a product with a
    transposed matrix into an operator that they have in float32 only. An Einsum as the transposition avoids that.
    """
    from onnx import TensorProto, helper, numpy_helper

    nodes = list(graph.node)
    factors = {name for node in nodes if node.op_type == "MatMul" for name in node.input}
    del graph.node[:]
    for number, node in enumerate(nodes):
        first, second = f"replaced_{number}_first", f"replaced_{number}_second"
        if node.op_type in _FLOAT32_ONLY:
            single = [f"{first}_{position}" for position, _ in enumerate(node.input)]
            new = [
                helper.make_node("Cast", [double], [name], to=TensorProto.FLOAT)
                for double, name in zip(node.input, single, strict=True)
            ]
            (result,) = node.output
            node.input[:], node.output[:] = single, [second]
            new += [node, helper.make_node("Cast", [second], [result], to=TensorProto.DOUBLE)]
        elif node.op_type == "Cos":
            graph.initializer.append(numpy_helper.from_array(np.array(np.pi / 2), first))
            new = [
                helper.make_node("Add", [*node.input, first], [second]),
                helper.make_node("Sin", [second], node.output),
            ]
        elif node.op_type == "Transpose" and node.output[0] in factors:
            order = helper.get_node_attr_value(node, "perm")
            axes = string.ascii_lowercase[: len(order)]
            equation = f"{axes}->{''.join(axes[axis] for axis in order)}"
            new = [helper.make_node("Einsum", node.input, node.output, equation=equation)]
        else:
            new = [node]
        graph.node.extend(new)


def _add_labels(model: Any, labels: np.ndarray, multilabel: bool) -> None:
    """Add the output "label" before the probabilities.

    It is the most probable class or, for labels, all labels with a probability above one half.
    """
    from onnx import TensorProto, helper, numpy_helper

    graph, (p,) = model.graph, model.graph.output
    shape = p.type.tensor_type.shape.dim
    if multilabel:
        half = np.full((), 0.5, helper.tensor_dtype_to_np_dtype(p.type.tensor_type.elem_type))
        graph.initializer.append(numpy_helper.from_array(half, "half"))
        graph.node.append(helper.make_node("Greater", [p.name, "half"], ["more_probable"]))
        graph.node.append(helper.make_node("Cast", ["more_probable"], ["label"], to=TensorProto.INT64))
        kind, n_dimensions = TensorProto.INT64, 2
    else:
        graph.initializer.append(numpy_helper.from_array(labels, "classes"))
        graph.node.append(helper.make_node("ArgMax", [p.name], ["most_probable"], axis=1, keepdims=0))
        graph.node.append(helper.make_node("Gather", ["classes", "most_probable"], ["label"]))
        kind, n_dimensions = helper.np_dtype_to_tensor_dtype(labels.dtype), 1
    sizes = [axis.dim_param or axis.dim_value for axis in shape][:n_dimensions]
    label = helper.make_tensor_value_info("label", kind, sizes)
    del graph.output[:]
    graph.output.extend([label, p])


def _metadata(estimator: GNRegressor | GNClassifier) -> dict[str, str]:
    """Write the facts that are not in the graph as JSON."""
    known: dict[str, Any] = {"estimator": type(estimator).__name__}
    names = getattr(estimator, "feature_names_in_", None)
    if names is not None:
        known["feature_names"] = names.tolist()
    if isinstance(estimator, GNClassifier):
        known["classes"] = estimator.classes_.tolist()
    if estimator.preprocessor_ is not None:
        reader = estimator.preprocessor_[0]
        features = reader.get_feature_names_out()
        known["levels"] = {str(features[j]): levels for j, levels in reader.levels_.items()}
    return {name: json.dumps(value, default=str) for name, value in known.items()}


def _write(model: Any, metadata: dict[str, str], path: Path) -> None:
    """Write the file in one step: a reader sees the earlier file or the whole new one."""
    import onnx

    onnx.helper.set_model_props(model, metadata)
    onnx.checker.check_model(model)
    # A name of its own: with that of the file it could be too long.
    partial = path.with_name(f".{uuid.uuid4().hex}")
    try:
        partial.write_bytes(model.SerializeToString())
        if path.exists():
            shutil.copymode(path, partial)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
