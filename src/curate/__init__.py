"""Curate text for pretraining: score documents, choose among them, mix and pack what is left."""

__version__ = "0.6.0"
