"""A fitted classifier and its calibration in, the same in scikit-learn's own classes out, and back.

What is saved holds nothing but classes that skops loads without running code (see
`model.TRUSTED_TYPES`).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from kaznews.calibrate import Calibration

# What scikit-learn's temperature scaling adds to probabilities before it takes their logarithm.
EPSILON = 1e-12

Floats = npt.NDArray[np.float64]


def linear(classifier: Any) -> tuple[Floats, Floats] | None:
    """Return coefficients and intercepts as LogisticRegression has them; None if not linear."""
    if hasattr(classifier, "coef_") and hasattr(classifier, "decision_function"):
        coef, intercept = classifier.coef_, classifier.intercept_
    elif type(classifier).__name__ in ("ComplementNB", "MultinomialNB"):
        # Naive Bayes: the joint log-likelihood is linear; Complement NB has no prior in it.
        coef = classifier.feature_log_prob_
        complement = type(classifier).__name__ == "ComplementNB"
        intercept = np.zeros(len(coef)) if complement else classifier.class_log_prior_
        if len(coef) == 2:
            coef, intercept = coef[1:] - coef[:1], intercept[1:] - intercept[:1]
    else:
        return None
    coef = np.asarray(coef, dtype=np.float64)
    return coef, np.broadcast_to(np.asarray(intercept, dtype=np.float64), (len(coef),))


def calibrated(classifier: Any, calibration: Calibration) -> Any:
    """Return stock classes that give the calibrated probabilities of a fitted classifier.

    A linear one becomes a LogisticRegression, its decision values multiplied by ``beta``. Isotonic
    curves, and the temperature of what is not linear, are put around it by scikit-learn's own
    CalibratedClassifierCV, as if it had been fitted on the out-of-fold scores.
    """
    from sklearn.calibration import _TemperatureScaling
    from sklearn.linear_model import LogisticRegression

    weights = linear(classifier)
    if weights is not None:
        coef, intercept = weights
        softmax_classifier = LogisticRegression()
        softmax_classifier.classes_ = classifier.classes_
        softmax_classifier.coef_ = calibration.beta * coef
        softmax_classifier.intercept_ = calibration.beta * intercept
        softmax_classifier.n_features_in_ = coef.shape[1]
        softmax_classifier.n_iter_ = np.array([0], dtype=np.int32)
        classifier = softmax_classifier
    if calibration.curves:
        return _under_calibrators(classifier, list(calibration.curves), calibration.method)
    if weights is not None:
        return classifier
    if calibration.method == "none" and hasattr(classifier, "predict_proba"):
        return classifier
    scaling = _TemperatureScaling()
    scaling.beta_ = calibration.beta
    if len(classifier.classes_) == 2 and hasattr(classifier, "decision_function"):
        # Of a binary decision value scikit-learn makes the two scores -x and x, we 0 and x.
        scaling.beta_ = calibration.beta / 2
    return _under_calibrators(classifier, [scaling], "temperature")


def _under_calibrators(classifier: Any, calibrators: list[Any], method: str) -> Any:
    from sklearn.calibration import CalibratedClassifierCV, _CalibratedClassifier
    from sklearn.frozen import FrozenEstimator

    around = CalibratedClassifierCV(FrozenEstimator(classifier), method=method, ensemble=False)
    around.classes_ = classifier.classes_
    around.n_features_in_ = classifier.n_features_in_
    around.calibrated_classifiers_ = [
        _CalibratedClassifier(classifier, calibrators, classes=classifier.classes_, method=method)
    ]
    return around


def linear_part(pipeline: Any) -> tuple[Any, tuple[Any, ...]] | None:
    """Return the linear classifier of a pipeline and the isotonic curves over its decision values.

    Returns
    -------
    (estimator, tuple of IsotonicRegression) or None
        The estimator has ``coef_`` and ``intercept_``; without curves, probabilities are the
        softmax of its decision values. None where the classifier is not linear.
    """
    from sklearn.calibration import CalibratedClassifierCV

    classifier = getattr(pipeline, "named_steps", {}).get("classifier", pipeline)
    curves: tuple[Any, ...] = ()
    if isinstance(classifier, CalibratedClassifierCV) and classifier.method == "isotonic":
        (inner,) = classifier.calibrated_classifiers_
        classifier, curves = inner.estimator, tuple(inner.calibrators)
    return (classifier, curves) if hasattr(classifier, "coef_") else None
