"""Noise as a dataset of its own, for a teacher of images."""

from jaxdistill.data.dataset import Dataset, DatasetSettings
from jaxdistill.data.noise import Noise
from jaxdistill.errors import UserError


def read(settings: DatasetSettings) -> Dataset:
    """Returns a training split of square images; `noise.classes` is the number of the teacher's classes.

    Raises:
        UserError: for a size or number of classes that is not set.
    """
    settings.check_no_path()
    settings.check_no_splits()
    noise, size, channels = settings.noise, settings.size, settings.channels
    for key, value in {"data.size": size, "data.channels": channels, "data.noise.classes": noise.classes}.items():
        if not value:
            raise UserError(
                f"{key} must be set for noise, which has no {key.rpartition('.')[2]} of its own. Set {key} to the"
                " teacher's, or mix noise into the teacher's data: data.mix.noise=dict(name='noise'), with"
                " data.weight=0 for noise alone"
            )
    shape = (size, size, channels)
    split = Noise(shape, noise.count, kind=noise.kind, seed=noise.seed)
    return Dataset({"train": split}, tuple(map(str, range(noise.classes))), shape)
