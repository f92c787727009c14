"""Maps the top-level folders `operators` and `apps` into the package `streamcore`; all else is in pyproject.toml."""

from setuptools import find_packages, setup

packages = find_packages(include=["streamcore", "streamcore.*"])
package_dir = {"streamcore": "streamcore"}
for folder in ("operators", "apps"):
    package_dir[f"streamcore.{folder}"] = folder
    packages += [f"streamcore.{folder}", *(f"streamcore.{folder}.{name}" for name in find_packages(folder))]

setup(packages=packages, package_dir=package_dir)
