"""What the paper says of the flows, and what the pages of examples/theory say they saw: properties of real data."""

import runpy
from functools import cache
from pathlib import Path

import numpy as np
import pytest

plt = pytest.importorskip("matplotlib.pyplot")

THEORY = Path(__file__).parent.parent / "examples" / "theory"


@cache
def page(name):
    """The variables of a page, which is run once."""
    plt.switch_backend("Agg")
    variables = runpy.run_path(str(THEORY / f"{name}.py"))
    assert plt.get_fignums()
    plt.close("all")
    return variables


class TestConditioning:
    name = "plot_1_conditioning"

    def test_the_gauss_newton_rate_is_one_whatever_the_condition(self):
        here = page(self.name)
        assert here["conditions"][-1] > 1000 * here["conditions"][0]
        np.testing.assert_allclose(here["gauss_newton_rates"], 1, atol=0.01)
        assert all(flow.rate().error < 0.01 for flow in here["gauss_newton"])

    def test_that_of_gradient_flow_collapses(self):
        here = page(self.name)
        rates, errors = here["gradient_rates"].T
        # That of the smallest eigenvalue, where the time was long enough for it to be the only one left.
        np.testing.assert_allclose(rates[:2], here["eigenvalues"][:2], rtol=0.05)
        assert (rates[2:] < 0.1 * rates[0]).all()
        assert (errors < 0.2 * rates).all()

    def test_away_from_the_start_the_undamped_flow_may_be_too_stiff_and_the_damped_one_is_not(self):
        far = page(self.name)["far"]
        assert "max_evaluations" in {undamped.status for undamped, _ in far.values()}
        assert all(damped.status == "end" for _, damped in far.values())
        assert far[3, 1][0].rate().rate < 0.9


class TestRiemannianGradient:
    name = "plot_2_riemannian_gradient"

    def test_it_falls_exponentially(self):
        flows = page(self.name)["flows"]
        np.testing.assert_allclose(flows["Gauss-Newton"].rate("riemannian_gradient_norm").rate, 1, atol=0.01)
        late = flows["Gauss-Newton, classifier"].rate("riemannian_gradient_norm", start=4)
        np.testing.assert_allclose(late.rate, 1, atol=0.05)
        assert flows["gradient"].rate("riemannian_gradient_norm", start=4).rate < 0.1

    def test_the_smallest_eigenvalue_stays_away_from_0_near_the_start(self):
        here = page(self.name)
        assert min(here["lowest"].values()) > 0.5
        assert here["fall"] < 0.05  # and not where the flow is stiff


class TestAlpha:
    name = "plot_3_alpha"

    def test_the_distance_from_the_start_falls_like_one_over_alpha(self):
        here = page(self.name)
        for distances in here["distances"].values():
            assert (np.diff(distances) < 0).all()
            slope = np.polyfit(np.log(here["alphas"]), np.log(distances), 1)[0]
            assert -1.2 < slope < -0.7

    def test_the_smallest_eigenvalue_moves_least_where_alpha_is_large(self):
        here = page(self.name)
        for ratios in here["smallest"].values():
            moves = np.abs(np.log(ratios))
            assert moves[-1] < moves[:-1].max()

    def test_features_are_learned_with_a_small_alpha_only(self):
        scores = page(self.name)["scores"]
        assert scores["sin(2 x1) x2"][0] > scores["sin(2 x1) x2"][-1] + 0.2
        assert np.ptp(scores["diabetes"]) < 0.1


class TestDamping:
    name = "plot_4_damping"

    def test_the_schedule_keeps_the_rate_whatever_the_smallest_eigenvalue(self):
        here = page(self.name)
        assert here["smallest"][1000] < 1e-9 * here["smallest"][1]
        rates = [here["rates"]["smallest eigenvalue", factor] for factor in here["factors"]]
        assert min(rates) > 0.5 and max(rates) < 1

    def test_constants_are_right_for_one_conditioning_only(self):
        rates = page(self.name)["rates"]
        assert rates["1e-2", 1] > 0.9 and rates["1e-2", 100] < 0.2
        assert rates["1", 1] < 0.5 and rates["1", 10] < 0.05

    def test_no_damping_costs_more_the_worse_the_conditioning(self):
        here = page(self.name)
        evaluations = [here["flows"]["none", factor].n_evaluations for factor in here["factors"]]
        assert (np.diff(evaluations) > 0).all()
        assert here["flows"]["none", 1000].status == "max_evaluations"


class TestInitialisation:
    name = "plot_5_initialisation"

    def test_symmetric_and_centred_start_at_0_and_one_of_them_is_regular(self):
        summary = page(self.name)["summary"]
        assert summary["symmetric"]["output"] == summary["centered"]["output"] == 0 < summary["random"]["output"]
        assert summary["symmetric"]["singular"] == 3 and summary["centered"]["singular"] == 0

    def test_the_undamped_flow_follows_the_centred_one_best_and_the_damped_flow_all(self):
        summary = page(self.name)["summary"]
        assert summary["centered"]["undamped"] > max(summary[init]["undamped"] for init in ("random", "symmetric"))
        assert all(row["damped"] == 3 for row in summary.values())
        assert summary["centered"]["distance"] < summary["random"]["distance"]


class TestMinibatches:
    name = "plot_6_minibatches"

    def test_full_batches_are_eulers_method_for_the_flow(self):
        here = page(self.name)
        k = np.arange(len(here["distances"][1]))
        np.testing.assert_allclose(here["distances"][1], (1 - here["step"]) ** k, rtol=0.02)

    @pytest.mark.parametrize("parts", [4, 16])
    def test_the_exponential_rate_survives(self, parts):
        here = page(self.name)
        distance = here["distances"][parts]
        assert distance.min() < 1e-4  # no noise is left at the minimum
        assert here["rates"][parts][1] > 3 * here["rates"][1][1]  # and it is had in fewer passes
