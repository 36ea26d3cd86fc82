"""Satmeter sells AI compute for Bitcoin Lightning sats, per job or from a pre-funded session."""

__version__ = "0.1.0"
