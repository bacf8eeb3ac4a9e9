"""The contracts between facekd's parts: bundle card, artefact manifest, benchmark record, and a model's input."""
