"""Online matrix factorisation on a stream loop; see `streamcore.operators.online_mf.vectors`."""

from streamcore.operators.online_mf.vectors import (
    ERRORS,
    Hyperparameters,
    ItemVectors,
    UserVectors,
    factors_schema,
    rating_schema,
    update_schema,
    visit_schema,
)

__all__ = [
    "ERRORS",
    "Hyperparameters",
    "ItemVectors",
    "UserVectors",
    "factors_schema",
    "rating_schema",
    "update_schema",
    "visit_schema",
]
