import math

import numpy as np
import pytest
import torch
from dense import draw, torch_functions
from scipy import stats
from scipy.integrate import quad
from scipy.special import log_softmax, xlogy
from scipy.stats import cauchy, loggamma, norm
from scipy.stats import t as student_t
from sklearn.metrics import log_loss, mean_gamma_deviance, mean_poisson_deviance
from torch.nn import functional

from skgn.activations import ACTIVATIONS
from skgn.count_losses import PoissonLoss
from skgn.label_losses import LogLoss, SoftmaxLoss
from skgn.losses import GammaLoss, NoiseLoss, SquaredError
from skgn.robust_losses import CauchyLoss, HuberLoss, QuantileLoss, StudentTLoss


def targets(loss, n, k):
    """Valid targets of a loss, (n, k)."""
    if isinstance(loss, PoissonLoss):
        return (3 * draw(n, k, seed=5)).abs().floor()
    if isinstance(loss, NoiseLoss):
        return draw(n, k, seed=5)
    if isinstance(loss, LogLoss):
        return (draw(n, k, seed=5) > 0).double()
    return functional.one_hot(torch.arange(n) % k, k).double()


LOSSES = [
    (SquaredError(), 1),
    (SquaredError(), 3),
    (LogLoss(), 1),
    (LogLoss(), 3),
    (SoftmaxLoss(), 2),
    (SoftmaxLoss(), 4),
]
LOSS_IDS = [f"{type(loss).__name__}-{k}" for loss, k in LOSSES]

#: Outputs from ordinary to where exp overflows in float64.
MAGNITUDES = [1.0, 30.0, 1e3, 1e6]


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_activation_and_slope_match_torch_and_autograd(activation):
    z = torch.cat([torch.linspace(-50, 50, 403, dtype=torch.float64), 3 * draw(200)])
    function, derivative = ACTIVATIONS[activation]
    expected = torch_functions[activation](z)
    # torch turns softplus into z beyond 20, where exp(-20) is what it drops.
    atol = 3e-9 if activation == "softplus" else 1e-12
    torch.testing.assert_close(function(z), expected, rtol=1e-12, atol=atol)
    slope = torch.func.vmap(torch.func.grad(torch_functions[activation]))(z)
    torch.testing.assert_close(derivative(z, function(z)), slope, rtol=1e-10, atol=atol)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_activation_is_finite_far_out(activation, dtype):
    z = torch.tensor([-1e15, -1e4, -800.0, 0.0, 800.0, 1e4, 1e15], dtype=dtype)
    a = ACTIVATIONS[activation].function(z)
    slope = ACTIVATIONS[activation].derivative(z, a)
    assert a.dtype == slope.dtype == dtype
    assert bool(torch.isfinite(a).all()) and bool(torch.isfinite(slope).all())


def test_softplus_slope_is_consistent_beyond_torch_threshold():
    # A step of the objective is compared with its derivative: both must come from the same function.
    z = torch.tensor([19.0, 20.5, 22.0, 25.0], dtype=torch.float64)
    excess = ACTIVATIONS["softplus"].function(z) - z
    np.testing.assert_allclose(excess, np.log1p(np.exp(-z.numpy())), rtol=1e-4)


@pytest.mark.parametrize(("loss", "k"), LOSSES, ids=LOSS_IDS)
@pytest.mark.parametrize("magnitude", MAGNITUDES)
def test_gradient_and_curvature_root_match_autograd(loss, k, magnitude):
    f, y = magnitude * draw(12, k), targets(loss, 12, k)

    def one(f, y):
        if isinstance(loss, SquaredError):
            return functional.mse_loss(f, y, reduction="sum") / 2
        if isinstance(loss, LogLoss):
            return functional.binary_cross_entropy_with_logits(f, y, reduction="sum")
        return functional.cross_entropy(f[None], y[None], reduction="sum")

    torch.testing.assert_close(loss.value(f, y), torch.func.vmap(one)(f, y), rtol=1e-12, atol=1e-12 * magnitude)
    gradient = torch.func.vmap(torch.func.grad(one))(f, y)
    torch.testing.assert_close(loss.gradient(f, y), gradient, rtol=1e-10, atol=1e-12)
    hessian = torch.func.vmap(torch.func.jacrev(torch.func.grad(one)))(f, y)
    R = loss.curvature_root(f, y)
    torch.testing.assert_close(R @ R.mT, hessian, rtol=1e-9, atol=1e-14)
    tangent = draw(12, k, seed=5)
    curved = (hessian @ tangent[:, :, None])[:, :, 0]
    torch.testing.assert_close(loss.curvature_product(f, y, tangent), curved, rtol=1e-9, atol=1e-14)
    tangents = torch.stack([tangent, draw(12, k, seed=6)], 2)
    squares = torch.einsum("nkm,nkl,nlm->nm", tangents, hessian, tangents)
    torch.testing.assert_close(loss.curvature_squares(f, y, tangents), squares, rtol=1e-9, atol=1e-12)


#: Losses whose curvature is that of a parabola above them, without and with noise precisions of three outputs.
REWEIGHTED = [
    loss
    for beta in (None, torch.tensor([0.25, 1.0, 7.0], dtype=torch.float64))
    for loss in (
        StudentTLoss(beta),
        CauchyLoss(beta),
        HuberLoss(beta),
        QuantileLoss(beta, 0.5),
        QuantileLoss(beta, 0.9),
    )
]

#: Losses with log links: the mean is exp(f), times this for counts.
MEAN = 2.5
LOG_LINKS = [PoissonLoss(), PoissonLoss(torch.full((3,), math.log(MEAN), dtype=torch.float64)), GammaLoss()]


@pytest.mark.parametrize("loss", LOG_LINKS)
def test_log_links_match_autograd_and_the_deviances_of_sklearn(loss):
    f, y = draw(12, 3), targets(loss, 12, 3)
    factor = MEAN if loss is LOG_LINKS[1] else 1.0

    def one(f, y):
        if isinstance(loss, GammaLoss):
            return ((y - f).exp() - (y - f) - 1).sum()
        return functional.poisson_nll_loss(f + math.log(factor), y, reduction="sum")

    slope = torch.func.vmap(torch.func.grad(one))(f, y)
    torch.testing.assert_close(loss.gradient(f, y), slope, rtol=1e-10, atol=1e-12)
    hessian = torch.func.vmap(torch.func.jacrev(torch.func.grad(one)))(f, y)
    R = loss.curvature_root(f, y)
    torch.testing.assert_close(R @ R.mT, hessian, rtol=1e-9, atol=1e-12)
    mean = loss.inverse_link(f)
    torch.testing.assert_close(mean, factor * f.exp())
    deviance, observed = (mean_gamma_deviance, y.exp()) if isinstance(loss, GammaLoss) else (mean_poisson_deviance, y)
    expected = [3 * deviance(a, b) / 2 for a, b in zip(observed.numpy(), mean.numpy(), strict=True)]
    np.testing.assert_allclose(loss.value(f, y), expected, rtol=1e-10)


def test_relative_shapes_weigh_the_outputs_of_the_gamma_loss():
    f, y, r = draw(9, 3), draw(9, 3, seed=1), torch.tensor([0.25, 1.0, 4.0], dtype=torch.float64)
    loss = GammaLoss().at_precision(7 * r)
    each = [GammaLoss().value(f[:, j : j + 1], y[:, j : j + 1]) for j in range(3)]
    torch.testing.assert_close(loss.value(f, y), torch.stack(each, 1) @ r)
    torch.testing.assert_close(loss.gradient(f, y), GammaLoss().gradient(f, y) * r)
    torch.testing.assert_close(loss.curvature_root(f, y).square(), GammaLoss().curvature_root(f, y).square() * r)


@pytest.mark.parametrize("loss", REWEIGHTED, ids=lambda loss: type(loss).__name__)
def test_robust_gradients_match_finite_differences_of_the_log_density(loss):
    f, y = 3 * draw(40, 3), draw(40, 3, seed=1)
    beta = torch.ones(3, dtype=torch.float64) if loss.precision is None else loss.precision
    mean_beta = beta.log().mean().exp()
    expected = -loss.log_density(f - y, 1 / beta)
    at_zero = loss.log_density(0 * f, 1 / beta)
    zero = loss.value(y, y)
    torch.testing.assert_close(mean_beta * (loss.value(f, y) - zero), expected + at_zero, rtol=1e-10, atol=1e-10)
    for output in range(3):
        h = torch.zeros(3, dtype=torch.float64)
        h[output] = 1e-6
        slope = (loss.value(f + h, y) - loss.value(f - h, y)) / 2e-6
        torch.testing.assert_close(loss.gradient(f, y)[:, output], slope, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("loss", REWEIGHTED[:5], ids=lambda loss: type(loss).__name__)
@pytest.mark.parametrize("scale", [0.3, 1.0])
def test_robust_curvature_is_bounded_and_that_of_a_parabola_above_the_loss(loss, scale):
    loss = loss.at_precision(torch.tensor([scale**-2], dtype=torch.float64))
    f, y = torch.cat([5 * draw(200, 1), torch.zeros(1, 1).double()]), torch.zeros(201, 1, dtype=torch.float64)
    R = loss.curvature_root(f, y)[:, 0, 0]
    assert bool((R > 0).all()) and float(R.max()) == float(R[-1]) <= 2
    for move in torch.linspace(-20, 20, 41, dtype=torch.float64):
        parabola = loss.value(f, y) + loss.gradient(f, y)[:, 0] * move + 0.5 * (R * move).square()
        assert bool((parabola >= loss.value(f + move, y) - 1e-12).all())


@pytest.mark.parametrize(
    "loss", [*REWEIGHTED[:5], QuantileLoss(None, 0.02), GammaLoss()], ids=lambda loss: type(loss).__name__
)
def test_densities_integrate_to_one_and_have_their_scale(loss):
    def density(residual, power=0):
        value = loss.log_density(
            torch.tensor([[residual]], dtype=torch.float64), torch.tensor([0.25], dtype=torch.float64)
        ).exp()
        return float(value) * residual**power

    parts = [quad(density, a, b, limit=200)[0] for a, b in ((-math.inf, -1), (-1, 0), (0, 1), (1, math.inf))]
    assert sum(parts) == pytest.approx(1, abs=1e-6)
    if isinstance(loss, GammaLoss):
        # log y less the log of its mean; the residual is minus that.
        assert density(0.3) == pytest.approx(loggamma(4, loc=-math.log(4)).pdf(-0.3), rel=1e-10)
    if isinstance(loss, CauchyLoss):
        assert density(0.3) == pytest.approx(cauchy(scale=0.5).pdf(0.3), rel=1e-10)


@pytest.mark.parametrize(
    ("loss", "sample", "scale"),
    [
        (CauchyLoss(), cauchy(scale=0.3), 0.3),
        (HuberLoss(), norm(scale=0.3), 0.3),
        # The mean pinball loss of the median of normal noise; smoothing moves it a little.
        (QuantileLoss(), norm(scale=0.3), 0.3 * 0.5 * math.sqrt(2 / math.pi)),
    ],
    ids=["cauchy", "huber", "quantile"],
)
def test_scales_are_those_of_the_noise_and_outliers_hardly_move_the_robust_ones(loss, sample, scale):
    residual = torch.from_numpy(sample.ppf(np.linspace(0, 1, 2002)[1:-1]))[:, None]

    def found(residual):
        beta = torch.ones(1, dtype=torch.float64)
        for _ in range(200):
            beta = 1 / loss.at_precision(beta).weighted_squares(residual, 0 * residual).mean(0)
        return float(beta) ** -0.5

    assert found(residual) == pytest.approx(scale, rel=0.05)
    if not isinstance(loss, QuantileLoss):
        spoiled = torch.cat([residual, torch.full((222, 1), 1e6).double()])
        assert found(spoiled) < 1.3 * scale


def test_huber_loss_is_that_of_torch():
    f, y, sigma = 5 * draw(30, 1), draw(30, 1, seed=1), 0.7
    loss = HuberLoss(torch.tensor([sigma**-2], dtype=torch.float64), 1.2)
    expected = functional.huber_loss(f, y, reduction="none", delta=1.2 * sigma)[:, 0]
    torch.testing.assert_close(loss.value(f, y), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("q", [0.1, 0.5, 0.95])
def test_quantile_loss_is_the_pinball_loss_outside_its_kink_and_a_mean_of_it_inside(q):
    loss = QuantileLoss(quantile=q, smoothing=0.5)
    y = torch.tensor([-3.0, -0.6, -0.2, 0.0, 0.3, 0.5, 4.0], dtype=torch.float64)[:, None]
    shifts = np.linspace(-0.5, 0.5, 20001)
    expected = [np.mean(np.maximum(q * (v + shifts), (q - 1) * (v + shifts))) for v in y[:, 0].numpy()]
    np.testing.assert_allclose(loss.value(0 * y, y), expected, atol=1e-5)
    far = y[[0, 1, 6], 0].numpy()
    pinball = np.maximum(q * far, (q - 1) * far)
    np.testing.assert_allclose(loss.value(0 * y, y)[[0, 1, 6]], pinball, rtol=1e-12)


FINITE = [*LOSSES, *((loss, 3) for loss in REWEIGHTED)]


@pytest.mark.parametrize(("loss", "k"), FINITE, ids=[f"{type(loss).__name__}-{k}" for loss, k in FINITE])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_everything_is_finite_for_extreme_outputs(loss, k, dtype):
    f = torch.tensor([[-1e8], [-200.0], [0.0], [200.0], [1e8]], dtype=dtype).repeat(1, k)
    f[:, 0] *= -1
    y = targets(loss, 5, k).to(dtype)
    for result in (loss.value(f, y), loss.gradient(f, y), loss.curvature_root(f, y), loss.inverse_link(f)):
        assert result.dtype == dtype
        assert bool(torch.isfinite(result).all())


def test_confident_positives_keep_their_curvature():
    # 1 - sigmoid(f) is 0 from f = 37 on; the curvature is not.
    f = torch.tensor([[40.0], [-40.0], [300.0], [-300.0]], dtype=torch.float64)
    R = LogLoss().curvature_root(f, torch.ones_like(f))[:, 0, 0]
    np.testing.assert_allclose(R.square(), [math.exp(-40), math.exp(-40), math.exp(-300), math.exp(-300)], rtol=1e-12)
    # The same for softmax: against a rival 40 below, the curvature along the winner is about exp(-40).
    f = torch.tensor([[0.0, -40.0, -500.0]], dtype=torch.float64)
    R = SoftmaxLoss().curvature_root(f, torch.zeros_like(f))[0]
    np.testing.assert_allclose((R @ R.T)[:2, :2], math.exp(-40) * np.array([[1, -1], [-1, 1]]), rtol=1e-12)


def test_values_match_sklearn():
    f = 3 * draw(50, 4)
    y = targets(SoftmaxLoss(), 50, 4)
    value = SoftmaxLoss().value(f, y)
    np.testing.assert_allclose(value, -(log_softmax(f.numpy(), axis=1) * y.numpy()).sum(1), rtol=1e-12)
    probability = SoftmaxLoss().inverse_link(f).numpy()
    np.testing.assert_allclose(float(value.mean()), log_loss(y.argmax(1).numpy(), probability), rtol=1e-12)

    y = targets(LogLoss(), 50, 4)
    p = LogLoss().inverse_link(f).numpy()
    expected = -(xlogy(y.numpy(), p) + xlogy(1 - y.numpy(), 1 - p)).sum(1)
    np.testing.assert_allclose(LogLoss().value(f, y), expected, rtol=1e-12)

    y = targets(SquaredError(), 50, 4)
    np.testing.assert_allclose(SquaredError().value(f, y), ((f - y).numpy() ** 2).sum(1) / 2, rtol=1e-14)
    assert SquaredError().inverse_link(f) is f


def test_two_class_softmax_is_the_log_loss_of_the_difference():
    f, y = 5 * draw(30, 2), targets(SoftmaxLoss(), 30, 2)
    binary = LogLoss().value(f[:, 1:] - f[:, :1], y[:, 1:])
    torch.testing.assert_close(SoftmaxLoss().value(f, y), binary, rtol=1e-12, atol=1e-14)


def test_relative_precisions_weigh_the_outputs_of_the_squared_error():
    f, y, r = draw(9, 3), draw(9, 3, seed=1), torch.tensor([0.25, 1.0, 7.0], dtype=torch.float64)
    loss = SquaredError(r)
    torch.testing.assert_close(loss.value(f, y), ((f - y) ** 2 @ r) / 2)
    torch.testing.assert_close(loss.gradient(f, y), (f - y) * r)
    R = loss.curvature_root(f, y)
    torch.testing.assert_close(R @ R.mT, torch.diag(r).expand(9, 3, 3))


#: Noise precisions of three outputs, and degrees of freedom.
BETA, NU = torch.tensor([0.25, 1.0, 7.0], dtype=torch.float64), 5.0


def test_student_t_loss_is_minus_the_log_density():
    f, y = 3 * draw(20, 3), draw(20, 3, seed=1)
    scale = 1 / BETA.sqrt().numpy()
    mean_beta = float(BETA.log().mean().exp())

    def expected(f):
        return -student_t(NU, f.numpy(), scale).logpdf(y.numpy()).sum(1)

    loss = StudentTLoss(BETA, NU)
    at_zero = -student_t(NU, 0, scale).logpdf(0).sum()
    np.testing.assert_allclose(mean_beta * loss.value(f, y), expected(f) - at_zero, rtol=1e-12)
    for output in range(3):
        h = torch.zeros(3, dtype=torch.float64)
        h[output] = 1e-5
        slope = (expected(f + h) - expected(f - h)) / 2e-5
        np.testing.assert_allclose(mean_beta * loss.gradient(f, y)[:, output], slope, rtol=1e-6, atol=1e-8)


def test_student_t_curvature_is_that_of_a_parabola_above_the_loss():
    f, y = 5 * draw(200, 1), torch.zeros(200, 1, dtype=torch.float64)
    loss = StudentTLoss(BETA[2:], NU)
    R = loss.curvature_root(f, y)[:, 0, 0]
    for move in torch.linspace(-20, 20, 41, dtype=torch.float64):
        parabola = loss.value(f, y) + loss.gradient(f, y)[:, 0] * move + 0.5 * (R * move).square()
        assert bool((parabola >= loss.value(f + move, y) - 1e-12).all())
    # And it touches at the mirrored residual.
    move = -2 * f[:, 0]
    parabola = loss.value(f, y) + loss.gradient(f, y)[:, 0] * move + 0.5 * (R * move).square()
    torch.testing.assert_close(parabola, loss.value(-f, y), rtol=1e-9, atol=1e-12)


def test_student_t_of_many_degrees_of_freedom_is_the_squared_error():
    f, y = draw(9, 3), draw(9, 3, seed=1)
    many, normal = StudentTLoss(BETA, 1e9), SquaredError(BETA / BETA.log().mean().exp())
    for name in ("value", "gradient", "curvature_root", "weighted_squares"):
        torch.testing.assert_close(getattr(many, name)(f, y), getattr(normal, name)(f, y), rtol=1e-7, atol=1e-12)
    assert many.variance_factor == pytest.approx(normal.variance_factor, rel=1e-8)


@pytest.mark.parametrize("loss", [SquaredError(), StudentTLoss(None, NU)])
def test_log_densities_and_variances_match_scipy(loss):
    residual, squared_scale = draw(9, 3), draw(9, 3, seed=1).square()
    family = norm if isinstance(loss, SquaredError) else student_t(NU)
    scale = squared_scale.sqrt().numpy()
    expected = (family.logpdf(residual.numpy() / scale) - np.log(scale)).sum(1)
    np.testing.assert_allclose(loss.log_density(residual, squared_scale), expected, rtol=1e-12)
    assert loss.variance_factor == pytest.approx(family.var())


def test_student_t_scale_of_greatest_likelihood_is_the_mean_of_weighted_squares():
    residual = torch.from_numpy(student_t(NU, scale=0.3).rvs((400, 1), random_state=0))
    beta = torch.ones(1, dtype=torch.float64)
    for _ in range(100):
        beta = 1 / StudentTLoss(beta, NU).weighted_squares(residual, 0 * residual).mean(0)
    _, _, scale = student_t.fit(residual.numpy(), fdf=NU, floc=0)
    assert float(beta) ** -0.5 == pytest.approx(scale, rel=1e-3)


def test_dispersed_counts_have_the_extended_quasi_likelihood():
    f, y = torch.tensor([[0.3, 2.0], [-1.0, 1.0]], dtype=torch.float64), torch.tensor([[0.0, 9.0], [2.0, 3.0]]).double()
    beta = np.array([0.5, 0.1])
    loss = PoissonLoss().at_precision(torch.from_numpy(beta))
    each = stats.poisson.logpmf(y, f.exp()) - stats.poisson.logpmf(y, y)
    np.testing.assert_allclose(loss.log_likelihood(f, y), each @ beta)
    assert loss.log_normaliser(torch.from_numpy(beta)) == pytest.approx(-0.5 * np.log(1 / beta).sum())
