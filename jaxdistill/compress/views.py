"""The views of a network, composed, and their place among its variables.

    params/compress/VIEW/...      learned arrays, which the optimizer moves
    compress/VIEW/...             states

beside the module's own params, which keep their names.
"""

import contextlib
import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import flax.linen as nn
import jax
from flax.traverse_util import unflatten_dict
from jaxtyping import Array, Int

from jaxdistill.compress.view import Arrays, Calibration, Extra, Interceptor, Model, Stored, View
from jaxdistill.core import Variables, path_name
from jaxdistill.errors import UserError

COLLECTION = "compress"
"""The collection of states, and the reserved name among params."""


@dataclasses.dataclass(frozen=True)
class Views:
    """Views by name, in the order in which they are applied; none for a network as it is.

    Attributes:
        entries: `(name, view)`.
    """

    entries: tuple[tuple[str, View], ...] = ()

    @classmethod
    def of(cls, views: Mapping[str, View]) -> "Views":
        """Returns views in their stated order."""
        return cls(tuple(sorted(views.items(), key=lambda entry: entry[1].order)))

    def __bool__(self) -> bool:
        return bool(self.entries)

    @property
    def resizes(self) -> bool:
        """Whether arrays are stored in other shapes than the module declares."""
        return any(view.resizes for _, view in self.entries)

    @property
    def needing_data(self) -> list[str]:
        """The names of the views that are fitted by real data, or not at all."""
        return [name for name, view in self.entries if view.needs_data]

    def start(self, variables: Variables, whole: bool = True, model: Model | None = None) -> dict[str, Any]:
        """Returns variables with the extra arrays of those views that have none yet.

        Args:
            variables: of the module, in the shapes that it declares if `whole`, else in the stored ones.
            whole: whether arrays are still to be checked and resized.
            model: the module, without views; for views that resize whole arrays.

        Raises:
            UserError: for a view that does not fit the params.
        """
        learned, states, plain = _split(variables)
        for number, (name, view) in enumerate(self.entries):
            params = self._viewed(plain, learned, states, before=name)
            if whole:
                with _naming(name):
                    view.check(params)
            if whole and view.resizes:
                if model is None:
                    raise ValueError(f"view {name!r} resizes arrays and needs the model")
                before = Views(self.entries[:number]).interceptors(_join(plain, learned, states))
                with _naming(name):
                    plain = unflatten(view.resize(flatten(plain), model.under(*before)))
                params = self._viewed(plain, learned, states, before=name)
            if name not in learned and name not in states:
                extra = view.init(params)
                learned, states = _with(learned, name, extra.learned), _with(states, name, extra.state)
        return _join(plain, learned, states)

    def fit(self, variables: Variables, calibration: Calibration) -> dict[str, Any]:
        """Returns stored variables, resized and with extra arrays that are chosen by real data.

        Args:
            variables: of the module, in the shapes that it declares.
            calibration: the data.
        """
        learned, states, plain = _split(variables)
        for number, (name, view) in enumerate(self.entries):
            before = Views(self.entries[:number])
            seen = before.viewed(_join(plain, learned, states))
            with _naming(name):
                view.check(flatten(seen["params"]))
                stored, extra = view.fit(flatten(seen), _Under(calibration, before, _join(plain, learned, states)))
            # What a view before it stores stays: only a view that resizes changes the arrays themselves.
            plain = unflatten(stored) if view.resizes else plain
            learned, states = _with(learned, name, extra.learned), _with(states, name, extra.state)
        return _join(plain, learned, states)

    def viewed(self, variables: Variables) -> dict[str, Any]:
        """Returns the variables that the module is applied to."""
        learned, states, plain = _split(variables)
        return plain | {"params": unflatten(self._viewed(plain, learned, states))}

    def finish(self, variables: Variables) -> dict[str, Any]:
        """Returns the final variables, without extra arrays."""
        learned, states, plain = _split(variables)
        params = flatten(plain["params"])
        for name, view in self.entries:
            params = view.finish(params, _extra(name, learned, states))
        return plain | {"params": unflatten(params)}

    def final_inputs(self, name: str, variables: Variables) -> tuple[dict[str, Array], Extra]:
        """Returns the flat params that a view finishes, and its extra arrays."""
        learned, states, plain = _split(variables)
        params = flatten(plain["params"])
        for earlier, view in self.entries:
            if earlier == name:
                break
            params = view.finish(params, _extra(earlier, learned, states))
        return params, _extra(name, learned, states)

    def finished(self, variables: Variables) -> tuple["Views", dict[str, Any]]:
        """Returns the views that intercept layers, and the variables for them, whose params are final."""
        learned, states, _ = _split(variables)
        layers = tuple((n, v) for n, v in self.entries if v.intercept(_extra(n, learned, states)) is not None)
        needed = [{name: trees[name] for name, _ in layers if name in trees} for trees in (learned, states)]
        return Finished(layers), _join(self.finish(variables), *needed)

    def stored_bytes(self, variables: Variables) -> int:
        """Returns the bytes of variables in a file, in the forms of the views; without a header."""
        learned, states, plain = _split(variables)
        forms = {name: Stored(x.size, 8 * x.dtype.itemsize) for name, x in flatten(plain["params"]).items()}
        for name, view in self.entries:
            params = self._viewed(plain, learned, states, before=name)
            forms = view.stored(forms, params, _extra(name, learned, states))
        rest = flatten({name: tree for name, tree in plain.items() if name != "params"})
        return sum(form.bytes for form in forms.values()) + sum(x.size * x.dtype.itemsize for x in rest.values())

    def update(self, variables: Variables, step: Int[Array, ""]) -> dict[str, Any]:
        """Returns the states after optimizer update number `step`, as a part of the variables; often none."""
        learned, states, plain = _split(variables)
        params, updated = flatten(plain["params"]), dict(states)
        for name, view in self.entries:
            extra = view.update(_extra(name, learned, states), params, step)
            updated = _with(updated, name, extra.state)
            params = view.view(params, extra)
        return {COLLECTION: updated} if updated else {}

    @contextlib.contextmanager
    def applied(self, variables: Variables) -> Iterator[Variables]:
        """Yields the variables that the module is applied to, under the interceptors of the views."""
        if not self:
            yield variables
            return
        with contextlib.ExitStack() as stack:
            for interceptor in self.interceptors(variables):
                stack.enter_context(nn.intercept_methods(interceptor))
            yield self.viewed(variables)

    def interceptors(self, variables: Variables) -> list[Interceptor]:
        """Returns the interceptors under which the module is applied."""
        learned, states, _ = _split(variables)
        chosen = [view.intercept(_extra(name, learned, states)) for name, view in self.entries]
        return [interceptor for interceptor in chosen if interceptor is not None]

    def _viewed(
        self, plain: Variables, learned: Mapping[str, Any], states: Mapping[str, Any], before: str = ""
    ) -> dict[str, Array]:
        """Returns flat params after all views, or those before one."""
        params = flatten(plain["params"])
        for name, view in self.entries:
            if name == before:
                break
            params = view.view(params, _extra(name, learned, states))
        return dict(params)


class Finished(Views):
    """Views whose params are final: what is left of them in a call are their interceptors."""

    def viewed(self, variables: Variables) -> dict[str, Any]:
        return without_views(variables)


NO_VIEWS = Views()


@dataclasses.dataclass(frozen=True)
class _Under:
    """Calibration of a view whose network is seen through the views before it."""

    calibration: Calibration
    views: Views
    variables: Variables

    def batches(self) -> Any:
        return self.calibration.batches()

    def model(self) -> Model:
        return self.calibration.model().under(*self.views.interceptors(self.variables))

    def predict(self, variables: Variables, batch: Any, *interceptors: Interceptor) -> Any:
        return self.calibration.predict(variables, batch, *self.views.interceptors(self.variables), *interceptors)

    def loss(self, variables: Variables, batch: Any, *interceptors: Interceptor) -> Any:
        return self.calibration.loss(variables, batch, *self.views.interceptors(self.variables), *interceptors)


@contextlib.contextmanager
def _naming(name: str) -> Iterator[None]:
    """Puts the name of a view before the message of a `UserError`."""
    try:
        yield
    except UserError as error:
        raise UserError(f"{COLLECTION}.{name}.{error}") from error


def flatten(tree: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a nested tree, of dicts or of a library's own mappings, as arrays by flat name."""
    return {path_name(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}


def unflatten(arrays: Arrays) -> dict[str, Any]:
    """Returns arrays by flat name as a nested tree."""
    return unflatten_dict(dict(arrays), sep="/")


def without_views(variables: Mapping[str, Any]) -> dict[str, Any]:
    """Returns variables, or their shapes, without what views have added."""
    return _split(variables)[2]


def view_of(name: str) -> str:
    """Returns the view that an array belongs to, by its dotted name in a checkpoint; "" for those of the module."""
    parts = name.removeprefix("params.").split(".")
    return parts[1] if len(parts) > 1 and parts[0] == COLLECTION else ""


def _split(variables: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """Returns learned arrays and states by view, and the rest."""
    plain = {name: tree for name, tree in variables.items() if name != COLLECTION}
    params = dict(plain.get("params", {}))
    learned = dict(params.pop(COLLECTION, {}))
    return learned, dict(variables.get(COLLECTION, {})), plain | {"params": params}


def _join(plain: Mapping[str, Any], learned: Mapping[str, Any], states: Mapping[str, Any]) -> dict[str, Any]:
    params = {**plain["params"], **({COLLECTION: dict(learned)} if learned else {})}
    return {**plain, "params": params, **({COLLECTION: dict(states)} if states else {})}


def _with(trees: Mapping[str, Any], name: str, arrays: Arrays) -> dict[str, Any]:
    return {**trees, name: unflatten(arrays)} if arrays else dict(trees)


def _extra(name: str, learned: Mapping[str, Any], states: Mapping[str, Any]) -> Extra:
    return Extra(flatten(learned.get(name, {})), flatten(states.get(name, {})))
