"""Benchmarks of exported models: latency, memory, operators and accuracy in one record. The verb: facekd benchmark."""
