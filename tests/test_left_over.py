"""What a mixture of members lacks of left-out samples."""

import numpy as np
import torch
from scipy.special import softmax

from skgn.feedforward import FeedForward
from skgn.label_losses import SoftmaxLoss
from skgn.leave_one_out import LeftOut
from skgn.left_out_samples import LeftOutSamples
from skgn.left_over import left_over
from skgn.losses import SquaredError
from skgn.objective import Objective
from skgn.stacking import stacking_weights


def test_what_is_left_over_is_that_of_samples_with_a_prediction():
    random = np.random.RandomState(0)
    Y, outputs = random.standard_normal((2, 50, 1))
    network = FeedForward(2, 1, (3,))
    objective = Objective(network, SquaredError(), *map(torch.from_numpy, (np.zeros((50, 2)), Y, np.ones(50))))
    known = np.where(np.arange(50)[:, None] == 7, np.nan, outputs)
    left_out = LeftOut(torch.from_numpy(known), torch.full((50, 1), 0.1))

    def lacking_of(outputs):
        return left_over(LeftOutSamples(objective, SquaredError(), [outputs], [0.0]), np.ones(1))

    found = lacking_of(left_out)
    assert 7 not in found.rows and len(found.rows) == 49
    lacking = (Y - outputs)[found.rows]
    # In a unit in which no value exceeds 1.
    np.testing.assert_allclose(found.values * np.abs(lacking).max(), lacking)
    assert lacking_of(None) is None
    nothing = LeftOut(torch.full((50, 1), torch.nan).double(), left_out.variances)
    assert lacking_of(nothing) is None


def test_labels_are_held_against_the_mean_probabilities():
    random = np.random.RandomState(0)
    outputs, y = 3 * random.standard_normal((2, 50, 3)), random.randint(3, size=50)
    outputs[1, 7] = np.nan
    network, labels = FeedForward(2, 3, (3,)), torch.eye(3).double()[y]
    objective = Objective(network, SoftmaxLoss(), torch.zeros(50, 2).double(), labels, torch.ones(50).double())
    left_out = [LeftOut(torch.from_numpy(f), torch.zeros(50, 3)) for f in outputs]
    samples = LeftOutSamples(objective, SoftmaxLoss(), left_out, [0.0, 0.0])
    votes = stacking_weights(samples)
    p = np.average(softmax(outputs, axis=2), axis=0, weights=votes)
    found = left_over(samples, votes)
    assert found.rows.tolist() == [row for row in range(50) if row != 7] and 0.1 < votes[0] < 0.9
    np.testing.assert_allclose(found.values, (labels.numpy() - p)[found.rows])
    np.testing.assert_allclose(found.information, np.maximum(p * (1 - p), 1e-3)[found.rows])
