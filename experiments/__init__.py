"""Experiments: data, training, compression and reports on top of lticore_torch."""
