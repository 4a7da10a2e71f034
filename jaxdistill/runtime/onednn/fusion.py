"""Biases, sums and ReLUs in the call of the convolution before them, if nothing else reads its output.

So are the layers of a frozen network whose BatchNorms are folded (`compress.fold_batchnorm`): a pass over memory less
for each. A network that learns keeps what its gradient needs, and its convolutions stay alone.
"""

import dataclasses
from collections import defaultdict
from collections.abc import Container
from typing import Any

from jax.extend import core as jex

from jaxdistill.runtime.onednn.operation import BIAS, FORWARD, RELU, RESIDUAL, Convolution

CALLS = ("jit", "pjit", "custom_jvp_call")
"""Primitives that run a program once, on their own inputs."""


@dataclasses.dataclass(frozen=True)
class Chain:
    """A convolution and what follows it.

    Attributes:
        equations: their places in the program, the convolution's first.
        operands: variables of the bias and of the other summand, those that there are.
        fused: the bits of what follows.
        output: the variable that the last equation makes.
    """

    equations: tuple[int, ...]
    operands: tuple[Any, ...]
    fused: int
    output: Any


class Uses:
    """The equations of a program that read each variable.

    Args:
        program: a jaxpr without equations that nothing reads.
    """

    def __init__(self, program: Any) -> None:
        self.equations = program.eqns
        self._places: defaultdict[Any, list[int]] = defaultdict(list)
        for place, equation in enumerate(program.eqns):
            for atom in equation.invars:
                if not isinstance(atom, jex.Literal):
                    self._places[atom].append(place)
        self._results = {x for x in program.outvars if not isinstance(x, jex.Literal)}

    def find_only(self, variable: Any) -> int | None:
        """Returns the place of the only equation that reads a variable; None if others do, or the result has it."""
        places = self._places[variable]
        return places[0] if len(places) == 1 and variable not in self._results else None


def find_chain(place: int, convolution: Convolution, uses: Uses, taken: Container[int]) -> Chain:
    """Returns a convolution with as much of what follows as one call has.

    Args:
        place: of its equation.
        convolution: what the equation is.
        uses: of the program.
        taken: places of equations that other calls have, such as the sum of two convolutions.
    """
    (output,) = uses.equations[place].outvars
    chain = Chain((place,), (), 0, output)
    geometry = convolution.geometry
    if geometry.kind != FORWARD or geometry.lanes > 1 or geometry.operands != geometry.results:
        return chain
    for bit in (BIAS, RESIDUAL, RELU):
        place = uses.find_only(chain.output)
        if place is not None and place not in taken:
            chain = _extend(chain, bit, place, uses)
    return chain


def _extend(chain: Chain, bit: int, place: int, uses: Uses) -> Chain:
    """Returns the chain with the equation at a place if it is of this kind."""
    equation = uses.equations[place]
    operands = chain.operands
    if bit == RELU:
        if not _is_relu(equation):
            return chain
    else:
        summand = _other_summand(equation, chain.output)
        shape = chain.output.aval.shape
        if summand is None or summand.aval.shape != (shape if bit == RESIDUAL else (1, 1, 1, shape[-1])):
            return chain
        operands = (*operands, summand)
    return Chain((*chain.equations, place), operands, chain.fused | bit, equation.outvars[0])


def _other_summand(equation: Any, variable: Any) -> Any:
    """Returns what an equation adds to a variable; None if it is no sum, or of other types."""
    if equation.primitive.name not in ("add", "add_any"):
        return None
    others = [atom for atom in equation.invars if atom is not variable]
    if len(others) != 1 or isinstance(others[0], jex.Literal):
        return None
    return others[0] if others[0].aval.dtype == variable.aval.dtype else None


def _is_relu(equation: Any) -> bool:
    """Whether an equation is the larger of its operand and 0, by itself or as `jax.nn.relu` writes it."""
    if equation.primitive.name == "max":
        bounds = [atom.val for atom in equation.invars if isinstance(atom, jex.Literal)]
        return len(bounds) == 1 and float(bounds[0]) == 0.0
    programs = [*jex.jaxprs_in_params(equation.params)]
    return (
        equation.primitive.name in CALLS
        and len(programs) == 1
        and len(programs[0].eqns) == 1
        and _is_relu(programs[0].eqns[0])
    )
