"""A client of Satmeter servers."""
