"""Problem 3: domain-adversarial training from MNIST-M to SVHN and USPS."""

from p3_dann.inference import load_classifier, predict_digits

__all__ = ["load_classifier", "predict_digits"]
