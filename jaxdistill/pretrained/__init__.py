"""Weights of networks in the formats of other libraries, read and written without these libraries.

`formats.py` lists the formats by the prefix of a reference, `hf:FOLDER`. A family of networks is a file of `families/`:
the name of the model and its fields, and for each of its arrays the tensor that holds it. `layouts.py` has the orders
of axes. Tensors are mapped into memory and read when a device needs a part of them.
"""

from jaxdistill.pretrained.formats import describe, open_weights
from jaxdistill.pretrained.pretrained import Pretrained

__all__ = ["Pretrained", "describe", "open_weights"]
