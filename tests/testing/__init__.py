"""Tests of `tieline.testing`."""
