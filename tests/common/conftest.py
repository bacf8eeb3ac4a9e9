"""Properties are tried on the same examples each time, however long one takes."""

import hypothesis

hypothesis.settings.register_profile("the same each time", derandomize=True, deadline=None)
hypothesis.settings.load_profile("the same each time")
