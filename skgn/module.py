"""Any torch module as the network: :mod:`torch.func` computes its Jacobian, one sample at a time under ``vmap``.

Each trainable parameter is a layer with one input that is always 1. The Jacobian's rows of that parameter are then the
"back-propagated rows" themselves. So Gram matrix, kernel, traces and priors need no other formulas. The price is the
length of these rows: they have as many entries as there are weights. A feed-forward network has two short factors
instead.
"""

from __future__ import annotations

import copy
import math
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.func import functional_call, vjp, vmap

from .network import Network, Tape
from .wording import counted

__all__ = ["ModuleNetwork"]

#: Rows of the trial evaluation, which must not depend on each other.
_TRIAL_ROWS = 3


@dataclass(frozen=True)
class ModuleNetwork(Network):
    """A module that maps (n, n_inputs) to (n, n_outputs), row by row. It is copied, and the copy is set to evaluation.

    Parameters that do not require a gradient, and buffers, stay as they are. Two such networks are equal if their
    modules have the same structure.

    Raises
    ------
    TypeError, ValueError
        If the module does not map rows in this way, has nothing to train, or ``torch.func`` cannot differentiate it.
    """

    module: nn.Module = field(compare=False, repr=False)
    n_inputs: int
    n_outputs: int
    alpha: float = 1.0
    init: str = "random"
    structure: str = field(init=False)
    shapes: tuple[tuple[int, int], ...] = field(init=False, repr=False)
    hidden_layer_sizes: tuple[int, ...] = field(init=False, repr=False, default=())
    n_saved: int = field(init=False, repr=False, compare=False)
    exports_jacobian: ClassVar[bool] = False
    uses_autograd: ClassVar[bool] = True
    _threads: threading.local = field(init=False, repr=False, compare=False, default_factory=threading.local)

    def __post_init__(self) -> None:
        if self.init == "symmetric":
            raise ValueError("init='symmetric' pairs the units of layers that are known; with network= use 'centered'.")
        module = copy.deepcopy(self.module).cpu().eval()
        object.__setattr__(self, "module", module)
        object.__setattr__(self, "n_saved", self._try_forward())
        trainable = {name: tuple(p.shape) for name, p in self._trainable(module)}
        if not trainable:
            raise ValueError(f"network={type(module).__name__} has no parameter that requires a gradient.")
        object.__setattr__(self, "structure", f"{module}: {trainable}")
        object.__setattr__(self, "shapes", tuple((math.prod(shape), 1) for shape in trainable.values()))
        self._try_backward()

    def __str__(self) -> str:
        return type(self.module).__name__

    @staticmethod
    def _trainable(module: nn.Module) -> list[tuple[str, nn.Parameter]]:
        return [(name, parameter) for name, parameter in module.named_parameters() if parameter.requires_grad]

    def _try_forward(self) -> int:
        """Check the shapes of an evaluation, and count the numbers a row that torch saves of it for a backward pass."""
        name, n, saved = type(self.module).__name__, _TRIAL_ROWS, 0

        def count(values: Tensor) -> Tensor:
            nonlocal saved
            saved += values.numel() // n if values.ndim and len(values) == n else 0
            return values

        like = next((p for p in self.module.parameters() if not isinstance(p, nn.UninitializedParameter)), None)
        dtype = torch.get_default_dtype() if like is None else like.dtype
        X = self._trial_inputs(dtype)
        try:
            recorded = saved_tensors_hooks(count, lambda x: x)
            with torch.enable_grad(), torch.random.fork_rng(devices=[]), _PLAIN_ATTENTION, recorded:
                # A lazy module draws its parameters here.
                _seed(0)
                f = self.module(X)
        except (RuntimeError, ValueError, IndexError, TypeError) as error:
            raise ValueError(
                f"network={name} failed on {n} rows of {counted(self.n_inputs, 'input')}, as this fit has: {error}"
            ) from error
        if not isinstance(f, Tensor):
            raise TypeError(f"network={name} must return a tensor, got {type(f).__name__}.")
        if f.shape not in ([(n,), (n, 1)] if self.n_outputs == 1 else [(n, self.n_outputs)]):
            raise ValueError(
                f"network={name} maps {n} rows of {counted(self.n_inputs, 'input')} to the shape {tuple(f.shape)}; "
                f"this fit needs ({n}, {self.n_outputs})."
            )
        return saved

    def _trial_inputs(self, dtype: torch.dtype) -> Tensor:
        """Different rows of numbers that are an index of any table, and have logarithms and powers."""
        return torch.linspace(0.1, 0.9, _TRIAL_ROWS * self.n_inputs, dtype=dtype, device="cpu").view(_TRIAL_ROWS, -1)

    def _try_backward(self) -> None:
        """Check that rows are mapped each on its own, in a way that can be differentiated in float64."""
        name, n = type(self.module).__name__, _TRIAL_ROWS
        w = torch.from_numpy(self._flat(self.module))
        if not bool(torch.isfinite(w).all()):
            raise ValueError(f"network={name} has weights that are not finite numbers; members begin from these.")
        U = self.with_bias(self._trial_inputs(w.dtype))
        try:
            with torch.no_grad():
                f, tape = self.forward(U, w)
                J = torch.cat(
                    self.backward(tape, w, torch.eye(self.n_outputs, dtype=w.dtype, device="cpu").expand(n, -1, -1)), 2
                )
                gradient, tangent = self.vjp(tape, w, torch.ones_like(f)), self.jvp(tape, w, torch.ones_like(w))
        except (RuntimeError, ValueError) as error:
            # Batch normalisation without running statistics refuses a single row by a ValueError.
            raise ValueError(
                f"torch.func cannot differentiate network={name} in float64, sample by sample: {error}"
            ) from error
        same = torch.allclose(gradient, J.sum((0, 1)), rtol=1e-6, atol=1e-9, equal_nan=True)
        if not (same and torch.allclose(tangent, J.sum(2), equal_nan=True)):
            raise ValueError(f"network={name} must map each row on its own; its outputs depend on the other rows.")

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_threads"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state, _threads=threading.local())

    def __deepcopy__(self, memo: dict[int, Any]) -> ModuleNetwork:
        # Nothing in it ever changes.
        return self

    def trained(self, weights: np.ndarray) -> nn.Module:
        """Copy the module with these weights, in float64 and without ``alpha``."""
        module = copy.deepcopy(self.module).double()
        parts = self._parameters(torch.from_numpy(weights.copy()))
        with torch.no_grad():
            for name, parameter in self._trainable(module):
                parameter.copy_(parts[name])
        return module

    def _flat(self, module: nn.Module) -> np.ndarray:
        return torch.cat([p.detach().double().flatten() for _, p in self._trainable(module)]).numpy()

    def initial_weights(
        self, random_state: np.random.RandomState, own: bool = False, steepness: float = 1.0
    ) -> np.ndarray:
        """Draw weights by the module's own ``reset_parameters``; the random state of torch stays as it is.

        ``steepness`` changes nothing, because it is not known which weights make units steep.

        Raises
        ------
        ValueError
            If a part of the module has parameters of its own, but no such method.
        """
        if own:
            return self._flat(self.module)
        module = copy.deepcopy(self.module)
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            _seed(random_state.randint(np.iinfo(np.int32).max))
            for name, part in module.named_modules():
                if any(p.requires_grad for p in part.parameters(recurse=False)):
                    reset = getattr(part, "reset_parameters", None) or getattr(part, "_reset_parameters", None)
                    if not callable(reset):
                        raise ValueError(
                            f"network={type(module).__name__}: {name or 'the module'!r} ({type(part).__name__}) has "
                            "parameters but no reset_parameters(), by which members begin from different weights; "
                            "define it, or set n_estimators=1 to begin from the module's own weights."
                        )
                    reset()
        return self._flat(module)

    def input_blocks(self, layer: int) -> list[int]:
        return [1]

    def fan_in(self, layer: int) -> Tensor:
        """Number of inputs of a unit for a matrix or a kernel; 1 for biases and gains."""
        shape = self._trainable(self.module)[layer][1].shape
        return torch.full((1,), float(math.prod(shape[1:])), dtype=torch.float64, device="cpu")

    def output_scale(self, layer: int) -> float:
        """Return 1, because it is not known which layers are readouts."""
        return 1.0

    def arrays(self, weights: np.ndarray) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """Return the parameters in the shapes and the order of the module; there are no separate biases."""
        return [part.numpy().copy() for part in self._parameters(torch.from_numpy(weights.copy())).values()], []

    def _parameters(self, w: Tensor) -> dict[str, Tensor]:
        parts = torch.split(w, [out for out, _ in self.shapes])
        return {name: part.view(p.shape) for (name, p), part in zip(self._trainable(self.module), parts, strict=True)}

    def _local_module(self, like: Tensor) -> nn.Module:
        """The copy of the module for this thread, on a device and in a dtype.

        A functional call lends it other weights.
        """
        modules = vars(self._threads).setdefault("modules", {})
        key = like.device, like.dtype
        if key not in modules:
            modules[key] = copy.deepcopy(self.module).to(device=like.device, dtype=like.dtype)
        return modules[key]

    def _call(self, module: nn.Module, X: Tensor, w: Tensor) -> Tensor:
        with _PLAIN_ATTENTION:
            f: Tensor = functional_call(module, self._parameters(w), (X,))
        return self.alpha * f.reshape(X.shape[0], self.n_outputs)

    def forward(self, U: Tensor, w: Tensor, with_slopes: bool = True) -> tuple[Tensor, Tape]:
        """Compute outputs, and a tape whose only slope is the inputs U, from which derivatives begin."""
        return self._call(self._local_module(w), U[:, :-1], w), Tape([U[:, -1:]] * len(self.shapes), [U])

    def forward_exchanged(self, U: Tensor, partner: Tensor, w: Tensor, blocks: list[Tensor]) -> Iterator[Tensor]:
        for block in blocks:
            exchanged = U.clone()
            exchanged[:, block] = partner[:, block]
            yield self._call(self._local_module(w), exchanged[:, :-1], w)

    def backward(self, tape: Tape, w: Tensor, columns: Tensor) -> list[Tensor]:
        module = self._local_module(w)

        def rows(x: Tensor, sample_columns: Tensor) -> Tensor:
            pull = vjp(lambda w: self._call(module, x[None], w)[0], w)[1]
            return vmap(lambda g: pull(g)[0], in_dims=1)(sample_columns)

        J: Tensor = vmap(rows)(tape.slopes[0][:, :-1], columns)
        return list(torch.split(J, [out for out, _ in self.shapes], dim=2))

    def vjp(self, tape: Tape, w: Tensor, g: Tensor) -> Tensor:
        module = self._local_module(w)
        pull = vjp(lambda w: self._call(module, tape.slopes[0][:, :-1], w), w)[1]
        product: Tensor = pull(g)[0]
        return product

    def jvp(self, tape: Tape, w: Tensor, v: Tensor) -> Tensor:
        """Compute J v as the transpose of the transpose.

        Forward mode does not work in threads, nor for every operation.
        """
        self._local_module(w)  # not for the first time within a transformation
        transpose = vjp(lambda g: self.vjp(tape, w, g), w.new_zeros(len(tape.slopes[0]), self.n_outputs))[1]
        product: Tensor = transpose(v)[0]
        return product


class _PlainAttention:
    """Context in which attention is made of products and a softmax: the faster kernels have one derivative only.

    torch keeps the choice for the whole process. The last thread to leave restores it as the first one found it.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside, self._before = 0, (True, True, True)

    def __enter__(self) -> None:
        kernels: Any = torch.backends.cuda
        with self._lock:
            if self._inside == 0:
                fast = kernels.flash_sdp_enabled(), kernels.mem_efficient_sdp_enabled()
                self._before = (*fast, kernels.math_sdp_enabled())
                self._set(False, False, True)
            self._inside += 1

    def __exit__(self, *exception: object) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside == 0:
                self._set(*self._before)

    @staticmethod
    def _set(flash: bool, memory_efficient: bool, plain: bool) -> None:
        torch.backends.cuda.enable_flash_sdp(flash)
        torch.backends.cuda.enable_mem_efficient_sdp(memory_efficient)
        torch.backends.cuda.enable_math_sdp(plain)


_PLAIN_ATTENTION = _PlainAttention()


def _seed(seed: int) -> None:
    """Seed the generator of the processor alone: those of other devices would keep the seed."""
    torch.default_generator.manual_seed(seed)
