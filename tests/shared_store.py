"""The command with fsspec's `memory://` in a folder, which several processes see as they do a bucket."""

import os
import sys

import fsspec
from fsspec.implementations.dirfs import DirFileSystem
from fsspec.implementations.local import LocalFileSystem


class Folder(DirFileSystem):
    """Objects of `memory://` as files below the folder that STORE names."""

    protocol = "memory"
    cachable = False

    def __init__(self, **settings):
        super().__init__(os.environ["STORE"], LocalFileSystem(auto_mkdir=True))

    @classmethod
    def _strip_protocol(cls, path):
        return path.removeprefix("memory://")


if __name__ == "__main__":
    from jaxdistill import launch

    fsspec.register_implementation("memory", Folder, clobber=True)
    launch.run(sys.argv)
