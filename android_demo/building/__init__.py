"""Builds the Android demo without Gradle, from pinned files: see ../build.py."""
