"""An `.npz` of arrays: images with labels, texts as tokens, or features of tables."""

import difflib
import pathlib
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from jaxdistill.core import UNLABELLED
from jaxdistill.data import dense_arrays
from jaxdistill.data.array_supervision import FIELDS as SUPERVISION
from jaxdistill.data.array_supervision import NAMES, read_supervision
from jaxdistill.data.dataset import Arrays, Dataset, DatasetSettings, check_finite
from jaxdistill.data.images import check_channels_last, resize_splits
from jaxdistill.data.routes import add_routes
from jaxdistill.data.spilled import ROWS, map_rows
from jaxdistill.data.stored_arrays import read_arrays
from jaxdistill.data.supervision import Supervision
from jaxdistill.data.tables import arrays as arrays_of_tables
from jaxdistill.data.texts import Texts
from jaxdistill.errors import UserError, unknown
from jaxdistill.runtime import files

TOKENIZERS = ("tokenizer", "teacher_tokenizer")
IMAGE_FIELDS = ("image", "label")
MASKS = ("token_mask", "answer_mask", "teacher_token_mask", "teacher_answer_mask")
TOKEN_FIELDS = ("tokens", "label", *MASKS, "segment", "targets", "teacher_tokens")
"""Fields of a split, written `ROLE_FIELD`; `tasks/` has their meaning."""

FORMS = ("image", "tokens", "features")
"""The forms of examples, of which a split has one."""

FIELDS = frozenset([*IMAGE_FIELDS, *TOKEN_FIELDS, *arrays_of_tables.FIELDS, *dense_arrays.FIELDS])


def read(settings: DatasetSettings) -> Dataset:
    """Reads `ROLE_FIELD` for the roles `train`, `validation` and `test`.

    Images: `image` uint8 or float `[n, height, width]` or `[n, height, width, channels]`, and `label` integers `[n]`.
    Or `label_map` `[n, height, width]`, -1 for void; or `boxes` `[n, most, 4]`, `box_label` and optionally `box_crowd`
    `[n, most]`, -1 for no box (`data.dense_arrays`).
    Texts: `tokens` integers `[n, length]`; for all roles or none, `label` `[n]`, masks and `segment` `[n, length]`,
    `targets` `[n, length]` (-1 for none), and `teacher_tokens` of another length. `class_names`, `vocabulary`, the
    number of tokens, and `tokenizer` and `teacher_tokenizer`, names of the tokenizers, are optional.
    Tables: `features` `[n, columns]` with NaN for a missing value, and `label` `[n]`; `columns`, their names, are
    optional. Sparse features are in a folder (`tables.arrays.read_folder`).

    Instead of `label`, images, texts and tables may have `labels` `[n, classes]` of 0 and 1, or `target` `[n]` or
    `[n, targets]`, with `target_names`; -1 is a missing label, and NaN either (`data.array_supervision`).

    Images may be in a folder with `train_image.npy` and others, which are mapped into memory, and so are large arrays
    of an `.npz` (`data.stored_arrays`).

    An array `ROLE_NAME` `[n]`, of whole numbers or strings, chooses a network for each example if `route` is NAME.

    Raises:
        UserError: for a missing or foreign file, unknown names, and arrays that do not fit each other.
    """
    settings.check_no_splits()
    path = settings.path
    file = files.input_path("data.path", path)
    if path and file.is_dir() and not (file / "train_image.npy").is_file():
        return _read_routed(path, arrays_of_tables.read_folder(file), settings, arrays_of_tables.make_arrays_dataset)
    if path and file.is_dir():
        return _read_routed(path, _map_folder(file, settings), settings, _read_images)
    return _read_routed(path, _load(path, file), settings, _read_arrays)


def _read_routed(
    path: str,
    arrays: Mapping[str, np.ndarray],
    settings: DatasetSettings,
    read_arrays: Callable[[str, Mapping[str, np.ndarray], DatasetSettings], Dataset],
) -> Dataset:
    """Returns the dataset of arrays, with the routes of those that `settings` name, if they do.

    Raises:
        UserError: for a missing array of routes, and one that does not fit.
    """
    if not settings.route:
        return read_arrays(path, arrays, settings)
    routes = {role: f"{role}_{settings.route}" for field in FORMS for role in _find_roles(arrays, field)}
    for role, name in routes.items():
        if name not in arrays:
            options = sorted(name.removeprefix(f"{role}_") for name in arrays if name.startswith(f"{role}_"))
            raise unknown("data.route", settings.route, options, f"NAME of an array {role}_NAME of {path}")
    left_out = () if settings.route in FIELDS else routes.values()
    dataset = read_arrays(path, {name: array for name, array in arrays.items() if name not in left_out}, settings)
    for role, split in dataset.splits.items():
        if arrays[routes[role]].shape != (len(split),):
            raise UserError(
                f"{path}: {routes[role]!r} must have shape [{len(split)}], a value for each example, got"
                f" {[*arrays[routes[role]].shape]}. Correct it"
            )
    values = {role: arrays[routes[role]] for role in dataset.splits}
    return add_routes(dataset, values, lambda role, row: f"example {row} of {routes[role]!r} of {path}")


def _load(path: str, file: pathlib.Path) -> dict[str, np.ndarray]:
    if not path or not file.is_file():
        raise UserError(
            "data.path must be an .npz with train_image or train_tokens, train_label, test_image, ..., got no file"
            f" {path!r}"
        )
    return read_arrays(path, file)


def _read_arrays(path: str, arrays: Mapping[str, np.ndarray], settings: DatasetSettings) -> Dataset:
    if "train_features" in arrays:
        _roles(path, arrays, arrays_of_tables.FIELDS, arrays_of_tables.EXTRA)
        return arrays_of_tables.make_arrays_dataset(path, arrays, settings)
    if "train_tokens" in arrays:
        return _read_texts(path, arrays)
    if dense_arrays.is_dense(arrays):
        roles = _roles(path, arrays, dense_arrays.FIELDS, ["class_names"])
        images = {role: _check_image(path, role, arrays[f"{role}_image"]) for role in roles}
        return dense_arrays.make_dense_dataset(path, arrays, images, settings)
    return _read_images(path, arrays, settings)


def _map_folder(folder: pathlib.Path, settings: DatasetSettings) -> dict[str, np.ndarray]:
    """Maps the files `ROLE_image.npy` and `ROLE_label.npy` of a folder, of which a batch alone is read.

    Raises:
        UserError: for images that are not uint8, which would be read whole to be checked, and for a change of size.
    """
    if settings.size or settings.channels:
        raise UserError(
            f"data.size and data.channels must be left out for {folder}, whose images are mapped as they are, got"
            f" {settings.size} and {settings.channels}. Store them in that form"
        )
    arrays = {}
    for path in sorted(folder.glob("*.npy")):
        try:
            arrays[path.stem] = np.load(path, mmap_mode="r", allow_pickle=False)
        except (ValueError, OSError, EOFError) as error:
            raise UserError(f"{path} must be an array of np.save, got {error}. Save it again") from error
        if path.stem.endswith("_image") and arrays[path.stem].dtype != np.uint8:
            raise UserError(f"{path} must be uint8 to be mapped, got {arrays[path.stem].dtype}. Scale it to 0 to 255")
    return arrays


def _find_roles(arrays: Mapping[str, np.ndarray], field: str) -> list[str]:
    names = [name for name in arrays if name.endswith(f"_{field}") and not name.endswith(f"_teacher_{field}")]
    return [name.removesuffix(f"_{field}") for name in names]


def _roles(path: str, arrays: Mapping[str, np.ndarray], fields: Sequence[str], extra: Sequence[str]) -> list[str]:
    """Returns the roles of an `.npz`, or raises `UserError` for an array of an unknown name."""
    roles = _find_roles(arrays, fields[0])
    options = [*(f"{role}_{field}" for role in roles for field in fields), *extra]
    for name in arrays:
        if name not in options:
            near = difflib.get_close_matches(name, options, n=1, cutoff=0.5)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise UserError(
                f"{path} must have arrays ROLE_FIELD with the fields {list(fields)}, or {list(extra)}, got {name!r}."
                f"{hint} Rename it, leave it out, or name it in data.route"
            )
    return roles


def _read_images(path: str, arrays: Mapping[str, np.ndarray], settings: DatasetSettings) -> Dataset:
    if "train_image" not in arrays:
        raise UserError(f"{path} has no array 'train_image' or 'train_tokens'; there are {sorted(arrays)}")
    roles = _roles(path, arrays, (*IMAGE_FIELDS, *SUPERVISION), ["class_names", NAMES])
    supervision = read_supervision(path, arrays, {role: len(arrays[f"{role}_image"]) for role in roles})
    splits = {role: _check_images(path, role, arrays, supervision) for role in roles}
    labels = {role: split.label for role, split in splits.items()}
    names = supervision.class_names or _read_class_names(path, arrays, labels)
    shapes = {role: split.image.shape[1:] for role, split in splits.items()}
    if len(set(shapes.values())) > 1:
        raise UserError(f"the splits of {path} have images of different shapes: {shapes}")
    dataset = Dataset(splits, names, shapes["train"], targets=supervision.targets)
    return resize_splits(dataset, settings.size, settings.channels)


def _check_images(path: str, role: str, arrays: Mapping[str, np.ndarray], supervision: Supervision) -> Arrays:
    if supervision.arrays:
        return Arrays(
            _check_image(path, role, arrays[f"{role}_image"]), supervision.label[role], supervision.arrays[role]
        )
    if f"{role}_label" not in arrays:
        raise UserError(f"{path} has '{role}_image' and no '{role}_label'; there are {sorted(arrays)}")
    image, label = arrays[f"{role}_image"], arrays[f"{role}_label"]
    if image.ndim not in (3, 4) or label.shape != image.shape[:1] or not image.size:
        raise UserError(
            f"{path}: '{role}_image' has shape {image.shape} and '{role}_label' {label.shape}; expected"
            " [n, height, width(, channels)] and [n], n > 0"
        )
    check_whole(f"{path}: '{role}_label'", label, "labels")
    return Arrays(_check_image(path, role, image), label.astype(np.int32))


def _check_image(path: str, role: str, image: np.ndarray) -> np.ndarray:
    """Returns images `[n, height, width, channels]`, uint8 or float32 in [0, 1]."""
    if image.ndim not in (3, 4) or not image.size:
        raise UserError(
            f"{path}: '{role}_image' has shape {image.shape}; expected [n, height, width(, channels)], n > 0"
        )
    image = image[..., None] if image.ndim == 3 else image
    check_channels_last(image.shape[1:], f"{path}: '{role}_image'")
    if image.dtype != np.uint8:
        if not np.issubdtype(image.dtype, np.floating):
            raise UserError(f"{path}: '{role}_image' is {image.dtype}; images are uint8, or floats in [0, 1]")
        image = map_rows(lambda x: x.astype(np.float32), image)
        for start in range(0, len(image), ROWS):
            rows = np.arange(start, min(start + ROWS, len(image)))
            check_finite(image[start : start + ROWS], rows, f"{path}: '{role}_image'")
        if image.min() < 0 or image.max() > 1:
            raise UserError(f"{path}: '{role}_image' is from {image.min()} to {image.max()}; floats are in [0, 1]")
    return image


def _read_texts(path: str, arrays: Mapping[str, np.ndarray]) -> Dataset:
    if any(name.endswith("_image") for name in arrays):
        raise UserError(f"{path} has images and tokens; a set is of one of them: {sorted(arrays)}")
    roles = _roles(path, arrays, (*TOKEN_FIELDS, *SUPERVISION), ["class_names", "vocabulary", NAMES, *TOKENIZERS])
    supervision = read_supervision(path, arrays, {role: len(arrays[f"{role}_tokens"]) for role in roles})
    for field in TOKEN_FIELDS[1:]:
        having = [role for role in roles if f"{role}_{field}" in arrays]
        if having and having != roles:
            raise UserError(f"{path} has a {field} for {having} and not for the others of {roles}")
    splits = {role: _check_texts(path, role, arrays) for role in roles}
    for role, fields in supervision.arrays.items():
        splits[role] = Texts(splits[role].tokens, supervision.label[role], {**splits[role].fields, **fields})
    lengths = {role: split.tokens.shape[1] for role, split in splits.items()}
    if len(set(lengths.values())) > 1:
        raise UserError(f"the splits of {path} have texts of different lengths: {lengths}")
    largest = max(int(array.max()) for split in splits.values() for array in _token_arrays(split))
    vocabulary = arrays.get("vocabulary", np.array(largest + 1))
    if vocabulary.shape or not np.issubdtype(vocabulary.dtype, np.integer) or vocabulary <= largest:
        raise UserError(f"{path}: vocabulary={vocabulary}; it is one whole number, above the largest token {largest}")
    labels = {role: split.label for role, split in splits.items()}
    names = _read_class_names(path, arrays, labels) if "train_label" in arrays else supervision.class_names
    tokenizers = {name: str(arrays[name]) for name in TOKENIZERS if name in arrays}
    return Dataset(splits, names, (lengths["train"],), int(vocabulary), targets=supervision.targets, **tokenizers)


def _token_arrays(split: Texts) -> list[np.ndarray]:
    return [split.tokens, *(split.fields[field] for field in ("targets",) if field in split.fields)]


def _check_texts(path: str, role: str, arrays: Mapping[str, np.ndarray]) -> Texts:
    tokens, what = arrays[f"{role}_tokens"], f"{path}: '{role}_tokens'"
    if tokens.ndim != 2 or not tokens.size:
        raise UserError(f"{what} has shape {tokens.shape}; expected [n, length], n > 0")
    fields = {field: arrays[f"{role}_{field}"] for field in TOKEN_FIELDS[2:] if f"{role}_{field}" in arrays}
    teacher = fields.get("teacher_tokens", tokens)
    if teacher.shape[:1] != tokens.shape[:1] or teacher.ndim != 2:
        raise UserError(f"{path}: '{role}_teacher_tokens' has shape {teacher.shape}, and there are {len(tokens)} texts")
    for field, array in fields.items():
        shape = teacher.shape if field.startswith("teacher_") else tokens.shape
        if array.shape != shape:
            raise UserError(f"{path}: '{role}_{field}' has shape {array.shape} and the tokens {shape}")
        fields[field] = map_rows(lambda x: (x > 0).astype(np.int32), array) if field in MASKS else array
    tokens = _blank_padding(tokens, fields.get("token_mask"))
    check_whole(what, tokens, "tokens")
    if "teacher_tokens" in fields:
        fields["teacher_tokens"] = _blank_padding(teacher, fields.get("teacher_token_mask"))
    for field in ("segment", "targets", "teacher_tokens"):
        if field in fields:
            check_whole(f"{path}: '{role}_{field}'", fields[field], field, least=-1 if field == "targets" else 0)
            fields[field] = _to_int32(fields[field])
    label = arrays.get(f"{role}_label", np.full(len(tokens), UNLABELLED, np.int32))
    if label.shape != tokens.shape[:1]:
        raise UserError(f"{path}: '{role}_label' has shape {label.shape}, and there are {len(tokens)} texts")
    if f"{role}_label" in arrays:
        check_whole(f"{path}: '{role}_label'", label, "labels")
    return Texts(_to_int32(tokens), label.astype(np.int32), fields)


def _to_int32(array: np.ndarray) -> np.ndarray:
    return array if array.dtype == np.int32 else map_rows(lambda x: x.astype(np.int32), array)


def _blank_padding(tokens: np.ndarray, mask: np.ndarray | None) -> np.ndarray:
    # Numbers that stand for padding may be no tokens.
    if mask is None:
        return tokens
    return map_rows(lambda x, present: np.where(present > 0, x, np.zeros((), x.dtype)), tokens, mask)


def check_whole(what: str, numbers: np.ndarray, kind: str, least: int = 0) -> None:
    """Raises `UserError` unless numbers are integers from `least` on."""
    whole = np.issubdtype(numbers.dtype, np.integer)
    if not whole or numbers.min() < least:
        seen = f"from {numbers.min()} to {numbers.max()}" if whole else f"of {numbers.dtype}"
        raise UserError(f"{what} is {seen}; {kind} are whole numbers from {least} on")


def _read_class_names(path: str, arrays: Mapping[str, np.ndarray], labels: Mapping[str, np.ndarray]) -> tuple[str, ...]:
    """Returns the array `class_names`, by default the numbers up to the largest label of `train`."""
    if "class_names" in arrays:
        if arrays["class_names"].ndim != 1:
            raise UserError(f"{path}: 'class_names' has shape {arrays['class_names'].shape}; it is a list of names")
        names = tuple(map(str, arrays["class_names"]))
        if repeated := sorted({name for name in names if names.count(name) > 1}):
            raise UserError(f"{path}: 'class_names' must be different names, got {repeated} twice. Rename them")
    else:
        train = labels["train"]
        if train.max() >= len(train):
            raise UserError(
                f"{path}: 'train_label' goes up to {train.max()} in {len(train)} examples; mend it, or add"
                " 'class_names'"
            )
        absent = np.setdiff1d(np.arange(train.max() + 1), train)
        if len(absent):
            raise UserError(
                f"{path}: 'train_label' must have an example of each class up to {train.max()}, got none of"
                f" {[int(number) for number in absent[:5]]}, {len(absent)} in all. Mend the labels, or add class_names"
            )
        names = tuple(map(str, range(train.max() + 1)))
    for role, label in labels.items():
        if label.max() >= len(names):
            raise UserError(f"{path}: '{role}_label' goes up to {label.max()}, and there are {len(names)} classes")
    return names
