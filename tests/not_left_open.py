"""Parameters that leave no room for networks which read pieces of features."""

NOT_LEFT_OPEN = [
    {"standardize": "robust"},
    {"prior_groups": "layer"},
    {"l2_regularization": 1e-3},
    {"n_estimators": 1},
    {"hidden_layer_sizes": ()},
    {"batch_size": 100},
    {"loss": "poisson"},
]
