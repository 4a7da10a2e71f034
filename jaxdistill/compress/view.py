"""The interface of a view: a network made cheaper, as a function of its params that is applied before its module.

A network's entry names its views, and the module stays as it is:

    compress=dict(prune=dict(view="sparse", sparsity=0.9), round=dict(view="quantize", bits=4))

Params and states of views have flat names, `block0/attention/query/kernel`. Views are applied in the order of their
attribute `order`, whatever the order of the config: structure, low rank, LoRA, sparse, codebook or binary, quantize.
"""

import contextlib
import dataclasses
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, ClassVar, NamedTuple, Protocol

import flax.linen as nn
from jaxtyping import Array, Int

from jaxdistill.config.parse import option
from jaxdistill.core import Batch, Output, Variables
from jaxdistill.errors import UserError

Arrays = Mapping[str, Array]
"""Arrays by flat name."""

Shapes = Mapping[str, Any]
"""Arrays, or their shapes, by flat name."""

Interceptor = Callable[..., Any]
"""A Linen interceptor, `(call, args, kwargs, context) -> value`."""

HEAD = "head"
"""The layer of the logits, which views leave out unless `match` names it."""


class Extra(NamedTuple):
    """Arrays of a view beside the params.

    Attributes:
        learned: arrays that the optimizer moves, such as the steps of a quantizer.
        state: arrays that the view updates, such as masks.
    """

    learned: Mapping[str, Array] = {}
    state: Mapping[str, Array] = {}


class Stored(NamedTuple):
    """The form of an array in a file.

    Attributes:
        values: number of stored values.
        bits: of each of them.
        extra_bits: of all that stands beside them: masks, scales and tables of values.
    """

    values: int
    bits: int
    extra_bits: int = 0

    @property
    def bytes(self) -> int:
        """Whole bytes."""
        return -(-(self.values * self.bits + self.extra_bits) // 8)


@dataclasses.dataclass(frozen=True)
class Model:
    """A network's module as a function, which a view may trace to find out how layers belong together.

    Attributes:
        apply: `(variables, batch) -> logits`, in inference, of nested variables in the shapes that the module declares.
        batch: shapes of a batch.
    """

    apply: Callable[[Variables, Batch], Any]
    batch: Mapping[str, Any]

    def under(self, *interceptors: Interceptor) -> "Model":
        """Returns the model under Linen interceptors."""

        def apply(variables: Variables, batch: Batch) -> Any:
            with contextlib.ExitStack() as stack:
                for interceptor in interceptors:
                    stack.enter_context(nn.intercept_methods(interceptor))
                return self.apply(variables, batch)

        return Model(apply, self.batch)


class Calibration(Protocol):
    """Real data, by which a view may choose in a stage of kind "compress"."""

    def batches(self) -> Iterator[Batch]:
        """Yields batches of the stage's split, prepared."""
        ...

    def predict(self, variables: Variables, batch: Batch, *interceptors: Interceptor) -> Output:
        """Returns the output of the module, applied to nested variables under Linen interceptors, in inference."""
        ...

    def model(self) -> Model:
        """Returns the module as a function, without its views."""
        ...

    def loss(self, variables: Variables, batch: Batch, *interceptors: Interceptor) -> Array:
        """Returns the mean cross-entropy of the labels, in nats."""
        ...


@dataclasses.dataclass(frozen=True)
class View:
    """Base class of views, one file each; the fields with a meaning are the config keys.

    Class attributes:
        order: the place among the views of a network.
        resizes: whether arrays are stored in other shapes than the module declares.
    """

    match: str = option("", "regular expression of the names of params; all that the view takes if empty")

    order: ClassVar[int] = 0
    resizes: ClassVar[bool] = False

    @property
    def needs_data(self) -> bool:
        """Whether `init` alone does not do, and a stage of kind "compress" must fit it."""
        return False

    @property
    def last_step(self) -> int:
        """The optimizer update at which a network is what the view makes of it; 0 if it is from the start."""
        return 0

    @property
    def layer_change(self) -> str:
        """The setting by which layers compute otherwise than the model declares; "" if arrays alone differ."""
        return ""

    def takes(self, name: str, shape: tuple[int, ...]) -> bool:
        """Whether the view can be applied to an array, whatever `match` is."""
        return name.rpartition("/")[2].startswith("kernel") and len(shape) > 1

    def selected(self, params: Shapes) -> list[str]:
        """Returns the names of the params that the view is applied to, in order."""
        names = [name for name, x in params.items() if self.takes(name, x.shape)]
        if self.match:
            return [name for name in names if re.search(self.match, name)]
        return [name for name in names if HEAD not in name.split("/")]

    def check(self, params: Shapes) -> None:
        """Checks the fields against the shapes of a network's params; `super().check` refuses a rule without match.

        Raises:
            UserError: for values that the view cannot have, with the name of the field in front.
        """
        self.check_pattern()
        if not self.selected(params):
            taken = [name for name, x in params.items() if self.takes(name, x.shape)]
            kind = type(self).__name__.lower()
            raise UserError(
                f"match must match a parameter that {kind!r} takes, got {self.match!r}. There are {taken or 'none'}"
            )

    def check_pattern(self) -> None:
        """Raises `UserError` unless `match` is a regular expression."""
        try:
            re.compile(self.match)
        except re.error as error:
            raise UserError(f"match must be a regular expression, got {self.match!r} ({error}). Correct it") from error

    def resize(self, variables: Arrays, model: Model) -> dict[str, Array]:
        """Returns the arrays that are stored in place of those that the module declares.

        Args:
            variables: flat names with the collection in front, `params/...` and `batch_stats/...`.
            model: the module, under the views before this one.
        """
        return dict(variables)

    def init(self, params: Arrays) -> Extra:
        """Returns the first extra arrays of the params, of views before it already applied."""
        return Extra()

    def view(self, params: Arrays, extra: Extra) -> dict[str, Array]:
        """Returns the params that the module is applied to; pure and differentiable."""
        return dict(params)

    def update(self, extra: Extra, params: Arrays, step: Int[Array, ""]) -> Extra:
        """Returns the extra arrays after optimizer update number `step`; of `learned` ones nothing may change."""
        return extra

    def finish(self, params: Arrays, extra: Extra) -> dict[str, Array]:
        """Returns the final params, for which the extra arrays are not needed."""
        return self.view(params, extra)

    def stored(self, forms: Mapping[str, Stored], params: Arrays, extra: Extra) -> dict[str, Stored]:
        """Returns the forms of the params in a file.

        Args:
            forms: those under the views before it.
            params: of views before it already applied.
            extra: of the view.
        """
        return dict(forms)

    def intercept(self, extra: Extra) -> Interceptor | None:
        """Returns an interceptor of the module's layers, for activations and layers of resized arrays."""
        return None

    def fit(self, variables: Arrays, calibration: Calibration) -> tuple[dict[str, Array], Extra]:
        """Returns the stored variables and the extra arrays, chosen by real data in a stage of kind "compress"."""
        stored = self.resize(variables, calibration.model()) if self.resizes else dict(variables)
        return stored, self.init({k.removeprefix("params/"): x for k, x in stored.items() if k.startswith("params/")})
