"""The kinds of teachers: one file each, found by its registered name, or by what lies at `teacher.bundle`."""
