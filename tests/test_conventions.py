"""What scikit-learn's own checks do not ask: the life of an estimator, how it shows itself, jobs, metadata, tags."""

import inspect
import re
from email.message import Message
from pathlib import Path

import joblib
import numpy as np
import pytest
import sklearn
from sklearn.base import clone, is_classifier, is_regressor
from sklearn.datasets import load_diabetes, load_iris
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import estimator_html_repr, get_tags
from sklearn.utils.fixes import parse_version
from sklearn.utils.validation import check_is_fitted

from skgn import GNClassifier, GNRegressor
from skgn.damping import GainRatio
from skgn.workers import members_at_once

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

SMALL = {"hidden_layer_sizes": (4,), "n_estimators": 2, "l2_regularization": 1e-2, "max_iter": 3, "random_state": 0}
ESTIMATORS = [GNRegressor, GNClassifier]
VERSION = parse_version(sklearn.__version__)
DOCS = Path(__file__).parents[1] / "docs"


def data(estimator):
    return (load_diabetes if estimator is GNRegressor else load_iris)(return_X_y=True)


def is_fitted(model):
    try:
        check_is_fitted(model)
    except NotFittedError:
        return False
    return True


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_fitted_is_what_has_been_fitted(estimator):
    X, y = data(estimator)
    model = estimator(**SMALL)
    assert not is_fitted(model)
    for bad_X, bad_y, bad_parameters in [(X, y[:-1], {}), (X + np.inf, y, {}), (X, y, {"alpha": -1})]:
        with pytest.raises(ValueError):
            clone(model).set_params(**bad_parameters).fit(bad_X, bad_y)
        with pytest.raises(ValueError):
            model.set_params(**bad_parameters).fit(bad_X, bad_y)
        assert not is_fitted(model.set_params(alpha=1.0)) and not hasattr(model, "n_features_in_")
    assert is_fitted(model.fit(X, y))
    with pytest.raises(ValueError):
        model.fit(X, y[:-1])
    assert is_fitted(model) and is_fitted(model.set_params(alpha=2.0)) and not is_fitted(clone(model))
    classes = {} if estimator is GNRegressor else {"classes": [0, 1, 2]}
    with pytest.raises(ValueError):
        clone(model).partial_fit(X + np.inf, y, **classes)
    assert is_fitted(clone(model).partial_fit(X, y, **classes))


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_methods_of_what_is_not_fitted_say_so(estimator):
    X, y = data(estimator)
    model = estimator()
    for method in ("predict", "predict_proba", "predict_log_proba", "decision_function"):
        if hasattr(model, method):
            with pytest.raises(NotFittedError, match=f"This {estimator.__name__} instance is not fitted yet"):
                getattr(model, method)(X)
    with pytest.raises(NotFittedError):
        model.score(X, y)
    assert not hasattr(model, "feature_importances_")


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_parameters_are_those_given(estimator):
    given = {"alpha": np.float32(2), "damping": GainRatio(), "hidden_layer_sizes": [3, 2], "n_jobs": -1}
    model = estimator(**given)
    assert all(model.get_params()[name] is value for name, value in given.items())
    twin = clone(model)
    assert repr(twin) == repr(model) and twin.get_params().keys() == model.get_params().keys()
    assert estimator(**model.get_params()).get_params() == model.get_params()
    assert estimator().set_params(**given).get_params() == model.get_params()
    with pytest.raises(ValueError, match="Invalid parameter 'hidden' for estimator"):
        model.set_params(hidden=3)


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_only_what_was_changed_is_printed(estimator):
    name = estimator.__name__
    assert repr(estimator()) == f"{name}()"
    assert repr(estimator(alpha=2.0, hidden_layer_sizes="auto")) == f"{name}(alpha=2.0)"
    with sklearn.config_context(print_changed_only=False):
        printed = repr(estimator())
    assert printed.startswith(f"{name}(activation='auto', alpha=1.0")


def parameters_in(html, kind):
    """Names in the rows of a kind in the table of parameters."""
    return re.findall(rf'<tr class="{kind}">.*?class="param">\s*(?:<[^>]*>\s*)*(\w+)', html, re.DOTALL)


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_notebooks_show_parameters_and_whether_it_is_fitted(estimator):
    X, y = data(estimator)
    model = estimator(alpha=2.0, **SMALL)
    for html in (model._repr_html_(), estimator_html_repr(model), make_pipeline(StandardScaler(), model)._repr_html_()):
        assert estimator.__name__ in html and "Not fitted" in html and "2.0" in html
    assert model._repr_mimebundle_()["text/plain"] == repr(model)
    fitted = model.fit(X, y)._repr_html_()
    assert "<span>Fitted</span>" in fitted and "Not fitted" not in fitted
    parameters, _, attributes = fitted.partition("Fitted attributes")
    if VERSION >= parse_version("1.7"):
        assert set(parameters_in(parameters, "user-set")) == {"alpha", *SMALL}
        assert set(parameters_in(parameters, "default")) == model.get_params().keys() - {"alpha", *SMALL}
    if VERSION >= parse_version("1.9"):
        assert all(name in attributes for name in ("status_message_", "n_features_in_"))


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("address", ["", "https://skgn.example/docs/"])
def test_notebooks_explain_parameters_where_the_package_names_its_documentation(estimator, address, monkeypatch):
    named = Message()
    named["Project-URL"] = "source, https://skgn.example/code"
    if address:
        named["Project-URL"] = f"Documentation, {address}"
    monkeypatch.setattr("skgn.parameters.metadata", lambda package: named)
    html, page = estimator()._repr_html_(), f"skgn.{estimator.__name__}.html"
    assert (f'href="{address}generated/{page}' in html) == bool(address) == (page in html)
    if VERSION >= parse_version("1.9"):
        # The text of the docstring, as a tooltip.
        assert ("Number of units of each hidden layer" in html) == bool(address)
    if address:
        assert (DOCS / "api" / "estimators.rst").read_text(encoding="utf-8").count(f"   {estimator.__name__}\n") == 1

    class Mine(estimator):
        pass

    assert page not in Mine()._repr_html_()


def test_large_members_are_shown_in_a_line():
    X = np.random.default_rng(0).normal(size=(150, 20))
    model = GNRegressor((30,), n_estimators=2, max_iter=1, random_state=0).fit(X, X[:, 0])
    assert sum(member.posterior.factor.nbytes for member in model.estimators_) > 3e5
    lines = [repr(member) for member in model.estimators_]
    assert all(len(line) < 600 and "hidden_layer_sizes=(30,)" in line and "status=" in line for line in lines)
    assert len(model._repr_html_()) < len(clone(model)._repr_html_()) + 2e4


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_jobs_change_nothing_but_the_time(estimator):
    X, y = data(estimator)
    expected = estimator(**SMALL).fit(X, y).predict(X)
    for n_jobs in (1, 2, -1, -2, -1000):
        np.testing.assert_array_equal(estimator(**SMALL, n_jobs=n_jobs).fit(X, y).predict(X), expected)
    with joblib.parallel_config("threading", n_jobs=2):
        np.testing.assert_array_equal(estimator(**SMALL).fit(X, y).predict(X), expected)
    with pytest.raises(ValueError, match="n_jobs == 0"):
        estimator(**SMALL, n_jobs=0).fit(X, y)


@pytest.mark.parametrize("n_jobs", [None, 1, 2, -1, -2, -1000])
def test_jobs_are_counted_as_by_joblib(n_jobs):
    assert members_at_once(n_jobs) == joblib.effective_n_jobs(n_jobs)
    with joblib.parallel_config("threading", n_jobs=3):
        assert (
            members_at_once(n_jobs) == joblib.effective_n_jobs(n_jobs) == (3 if n_jobs is None else _effective(n_jobs))
        )


def _effective(n_jobs):
    return n_jobs if n_jobs > 0 else max(1, joblib.cpu_count() + 1 + n_jobs)


def test_metadata_can_be_requested():
    fit = {"sample_weight", "X_val", "y_val", "sample_weight_val"}
    expected = {
        GNRegressor: {"fit": fit, "partial_fit": {"sample_weight"}, "predict": {"return_std", "return_cov"}},
        GNClassifier: {"fit": fit, "partial_fit": {"classes", "sample_weight"}},
    }
    with sklearn.config_context(enable_metadata_routing=True):
        for estimator, methods in expected.items():
            model = estimator()
            for method, names in (methods | {"score": {"sample_weight"}}).items():
                getattr(model, f"set_{method}_request")(**dict.fromkeys(names, True))
                routed = model.get_metadata_routing()
                assert getattr(routed, method).requests == dict.fromkeys(names, True)
            assert not hasattr(model, "set_predict_request") or "predict" in methods


def test_tags_say_what_kind_of_estimator_it_is():
    assert is_regressor(GNRegressor()) and is_classifier(GNClassifier())
    for loss in ("auto", "poisson", "gamma"):
        assert get_tags(GNRegressor(loss=loss)).target_tags.positive_only == (loss != "auto")
    for estimator in ESTIMATORS:
        tags = get_tags(estimator())
        assert not tags.array_api_support and not tags.no_validation and not tags.non_deterministic
        assert tags.input_tags.two_d_array and not tags.input_tags.three_d_array


#: What only one of the two estimators has.
OF_ONE = {
    *("loss", "quantile", "noise", "noise_", "noise_distribution_", "noise_degrees_of_freedom_", "noise_std_"),
    *("class_weight", "classes_", "temperature_"),
}

#: Where shared descriptions differ, and why: what GNRegressor says, and what GNClassifier says in its place.
DIFFERENCES = {
    # Each has members of a kind of its own beside those of tanh units.
    "activation": {
        'but of a fit on up to 200 distinct rows one member in three has "gelu". This needs ``prior_groups="auto"``, '
        "the evidence, and a loss with a noise level.": 'but some members have "relu": every third of two classes on '
        "up to 2,000 rows, else every other one, and none of several labels. The precision of all their weights is 1. "
        'From 400 rows on, the second of these reads "piecewise" inputs (see ``standardize``), as the one of two '
        'classes on up to 2,000 rows does. This needs ``prior_groups="auto"`` and the evidence.',
    },
    # Labels tell less than numbers: they hardly ever determine nearly all weights.
    "hidden_layer_sizes": {
        " On up to 2,000 rows, where samples determine nearly all of these weights, two more members may have "
        "(20, 20).": "",
    },
    # Classes have no variance around their probability.
    "weights_": {
        ' With ``loss="squared_error"`` and up to 10,000 rows members count at each row by their weight over the '
        "variance that they predict there. A member that is less sure counts less (docs/guide/uncertainty.md).": "",
    },
    # What the outputs mean.
    "network": {
        "to outputs (n, n_outputs), each row on its own.": "to logits (n, n_outputs), each row on its own. Two classes "
        "need one logit; otherwise each class or label needs one."
    },
    # The readout of a log loss has no exact solution to begin with.
    "damping": {"at the start and after every step": "after every step"},
    # A classifier has no noise level.
    "l2_regularization": {" and the noise level": ""},
    "tol": {
        "a nat a sample and target": "a nat a sample",
        ", or to a nat of a log density": "",
        " Once the noise is at most ``tol`` standard deviations of the target, no progress counts.": "",
    },
    "n_iter_": {
        " Where it was trained on with the precisions of the rows "
        '(``noise_`` is "input"), these count alone, here and in ``history_``.': "",
    },
    "history_": {
        " Where the noise level decides how residuals count, the validation loss is minus the mean log density at the "
        "present level. That is so for noise of heavy tails, for quantiles, and under the evidence for several "
        "outputs.": "",
        # A classifier has no noise level.
        '"noise_std", ': '"noise_std" (always nan), ',
    },
    "n_estimators": {
        " the noise level at the start,": "",
        # Where every other member is rectified, nothing is compared.
        ":meth:`partial_fit`). Up to 2,000 rows these are the most. Two networks are trained at a time, each to the "
        'end, or all at once with "poisson". No more are trained where all others promise to lower the loss of '
        "left-out samples by less than 2 %, as where networks agree. Above 2,000 rows": ":meth:`"
        'partial_fit`). With "relu" units among them (see ``activation``) it is 4, or 3 above 1,000 weights if every '
        "other member has such units. One of radial units is the last of the 4 of two classes, and one more of other "
        "classes. One of a forest is one more on 400 rows, and one of normal distributions where these tell more. "
        "Every network that starts becomes a member. Where none has "
        '"relu" units and rows are more than 2,000,',
        "If half of the members fail, or the best leaves half of the variance on up to 2,000 rows, others have steeper "
        "units.": 'If every other member has "relu" units and these hardly count, more of the others have steeper '
        "units, on up to 2,000 rows.",
        "and ``linear_path``.": "and ``linear_path``. There is none of several labels. On 400 rows or more, one more "
        "reads what a forest of trees says of classes, under the same conditions. Trees know the rows of the fit by "
        "heart: test with others. Where normal distributions of the classes tell left-out labels better than all "
        "networks, one more reads these.",
    },
    # There are models of classes alone.
    "estimators_": {
        "the largest weight first.": "the largest weight first, but those that read a forest or normal distributions "
        "last."
    },
    # Labels have none.
    "coefs_, intercepts_": {" One more, for what the units lack, counts in standard deviations alone.": ""},
    # Labels that others tell have outputs.
    "n_outputs_": {
        "Number of predicted values: columns of y, times quantiles where there are several. A network has no outputs "
        "for constant columns of y, nor for columns that are linear in a single other one. Where columns share noise, "
        "its outputs are combinations of them (docs/guide/estimators.md).": "Number of outputs of the network."
    },
    # A classifier keeps no posterior that a cheaper solver would lose.
    "solver": {
        '"cg" if neither fits.': '"cg" if neither fits. With a float ``l2_regularization``, and for members with '
        '"relu" units (see ``activation``), it also takes "cg" where a factorisation would take longer, as with wide '
        "networks and many classes. ``solver_`` names the factorisation that such a member has in the end.",
    },
    "validation_fraction": {"for validation,": "for validation, stratified by class,"},
    "loss_": {
        ", in units of the standardised target. A squared error counts half. For other noise the loss is minus the log "
        "density over the noise precision, shifted to 0 at residual 0. A pinball loss is multiplied by its mean. "
        '"poisson" and "gamma" have half the mean deviance.': ", in nats."
    },
    "log_evidence_": {", in units of the standardised target": ""},
    # Each loss has its own name for the score.
    "left_out_score_": {
        "R2 under a squared error": "McFadden's R2",
        " Of several outputs it is the mean of their scores.": "",
        "where members interpolate, where y does not vary, and in a regression by one network without hidden layers.": (
            "and where members interpolate."
        ),
    },
}


def descriptions(estimator):
    """What the docstring says of each parameter and attribute, in a line: its type, and the text below."""
    sections = re.split(r"\n\n(.+)\n-+\n", inspect.getdoc(estimator))
    text = dict(zip(sections[1::2], sections[2::2], strict=True))
    entries = re.split(r"\n(?=\S)", f"{text['Parameters']}\n{text['Attributes']}")
    return {name: " ".join(rest.split()) for name, _, rest in (entry.partition(" : ") for entry in entries)}


def test_what_both_estimators_have_is_described_alike():
    regressor, classifier = descriptions(GNRegressor), descriptions(GNClassifier)
    assert regressor.keys() ^ classifier.keys() == OF_ONE
    assert inspect.signature(GNRegressor).parameters.keys() <= regressor.keys()
    for name in regressor.keys() & classifier.keys():
        expected = regressor[name]
        for of_regressor, of_classifier in DIFFERENCES.get(name, {}).items():
            assert of_regressor in expected, name
            expected = expected.replace(of_regressor, of_classifier)
        assert classifier[name] == expected, name
