"""Retrieval quality of codes: metrics, records and plots."""
