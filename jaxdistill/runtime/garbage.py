"""Garbage collection of a command: paused while it imports and builds.

Almost all that imports and traces allocate stays, and the collector reads it again and again. Without, the main job's
start takes 0.3 s less of 2.4 s, with what JAX has compiled at hand.
"""

import gc

_paused = False


def pause() -> None:
    """Pauses the collection of cycles in this process, until `resume`."""
    global _paused
    _paused = _paused or gc.isenabled()
    gc.disable()


def resume() -> None:
    """Resumes what `pause` has paused; what is there by now is not read again."""
    global _paused
    if _paused:
        gc.freeze()
        gc.enable()
    _paused = False
