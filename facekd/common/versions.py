"""Versions of facekd and of installed packages, for what facekd writes about how something was made."""

# Here, and not in facekd/__init__.py: what lies below imports nothing of the package's public face.
__version__ = "0.1.0"


def package_version(package: str) -> str:
    """The installed version of a distribution, "unknown" where there is none of that name."""
    return package_versions(package).get(package, "unknown")


def package_versions(*packages: str) -> dict[str, str]:
    """Installed versions by distribution; those that are absent are left out."""
    # 40 ms, which `facekd --help` would wait for, and in which Ctrl-C would show a traceback.
    from importlib.metadata import PackageNotFoundError, version

    found = {}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
