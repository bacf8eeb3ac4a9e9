"""Measuring a face model: embeddings, 1:1 verification by the published protocol, plots."""
