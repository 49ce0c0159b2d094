"""CPU and CUDA agree. Skipped where there is no CUDA device: everything here needs one, and all of it runs on a CPU too
in the other files.
"""

import numpy as np
import pytest
import torch
from dense import NETWORKS, draw, name

from skgn import GNClassifier, GNRegressor
from skgn.activations import ACTIVATIONS
from skgn.jacobian import Jacobian

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
]


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_activations(activation):
    z = 3 * draw(200)
    function, derivative = ACTIVATIONS[activation]
    a = function(z.cuda())
    torch.testing.assert_close(a.cpu(), function(z), rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(derivative(z.cuda(), a).cpu(), derivative(z, function(z)), rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("network", NETWORKS, ids=name)
@pytest.mark.parametrize("factored", [False, True], ids=["explicit", "factored"])
def test_gram_kernel_and_products(network, factored):
    X, w, k = draw(40, 3), draw(network.n_weights, seed=1), network.n_outputs
    R = draw(40, k, k, seed=2)
    scale = [torch.rand(into, dtype=torch.float64) + 0.5 for _, into in network.shapes]

    def results(device):
        R_ = R.to(device)
        J = Jacobian(network, w.to(device), network.with_bias(X.to(device)), lambda rows: R_[rows], k)
        J.factored = factored
        inverse_scale = [m.to(device) for m in scale]
        v, r = draw(network.n_weights, seed=3).to(device), draw(40, k, seed=4).to(device)
        values = [
            J.gram(),
            J.kernel(inverse_scale),
            J.matvec(v),
            J.rmatvec(r),
            J.trace(),
            J.normal_product(v),
            J.diagonal(),
        ]
        return [value.cpu() for value in values]

    for cuda, cpu in zip(results("cuda"), results("cpu"), strict=True):
        torch.testing.assert_close(cuda, cpu, rtol=1e-10, atol=1e-11)


@pytest.mark.parametrize("estimator", [GNRegressor, GNClassifier])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize(
    ("solver", "l2"), [("primal", 1e-2), ("dual", 1e-2), ("cg", 1e-2), ("primal", "evidence"), ("dual", "evidence")]
)
def test_fits(estimator, solver, dtype, l2):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(80, 4))
    y = np.sin(X[:, 0]) + X[:, 1] + 0.1 * rng.normal(size=80)
    if estimator is GNClassifier:
        y = np.digitize(y, [-0.5, 0.5])

    def fit(device):
        parameters = {"l2_regularization": l2, "solver": solver, "dtype": dtype, "device": device}
        return estimator(6, n_estimators=2, max_iter=5, random_state=0, **parameters).fit(X, y)

    cuda, cpu = fit("cuda"), fit("cpu")
    tolerance = 1e-6 if dtype == "float64" else 1e-2
    np.testing.assert_allclose(cuda.history_["objective"][:3], cpu.history_["objective"][:3], rtol=tolerance)
    assert all(isinstance(member.weights, np.ndarray) for member in cuda.estimators_)
    # What was trained on one device predicts the same on the other.
    predict = (lambda model: model.predict(X)) if estimator is GNRegressor else (lambda model: model.predict_proba(X))
    before = predict(cuda)
    np.testing.assert_allclose(predict(cuda.set_params(device="cpu")), before, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("l2", [1e-2, "evidence"])
@pytest.mark.parametrize("solver", ["primal", "dual"])
def test_batches_and_streams(solver, l2):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(200, 4))
    y = np.sin(X[:, 0]) + X[:, 1] + 0.1 * rng.normal(size=200)

    def predict(device):
        model = GNRegressor(
            6, l2_regularization=l2, solver=solver, batch_size=50, device=device, n_estimators=1, max_iter=3,
            random_state=0,
        )  # fmt: skip
        return model.fit(X, y).partial_fit(X[::-1], y[::-1]).predict(X)

    np.testing.assert_allclose(predict("cuda"), predict("cpu"), rtol=1e-6, atol=1e-8)
