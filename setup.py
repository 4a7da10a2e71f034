"""The packages of a wheel: those of `jaxdistill`, and the top-level `configs` as `jaxdistill.configs`."""

from setuptools import find_namespace_packages, setup

setup(
    packages=[
        *find_namespace_packages(include=["jaxdistill", "jaxdistill.*"]),
        "jaxdistill.configs",
        *(f"jaxdistill.configs.{name}" for name in find_namespace_packages("configs")),
    ],
    package_dir={"jaxdistill.configs": "configs"},
)
