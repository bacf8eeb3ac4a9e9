"""Which packages there are; everything else about the distribution is in setup.cfg.

`find:` in setup.cfg names a package by its folder's place, so it can find neither export/ as facekd.export nor what is
below it. The names are therefore computed here, from the tree.
"""

from setuptools import find_packages, setup

PLACES = {"facekd": "facekd", "facekd.export": "export", "facekd.benchmarks": "benchmarks"}

setup(
    package_dir=PLACES,
    packages=[
        name
        for package, folder in PLACES.items()
        for name in (package, *(f"{package}.{sub}" for sub in find_packages(folder)))
    ],
)
