"""The peers of `dense_speed.py`: torchvision's dense networks and their training step in plain PyTorch."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
import torchvision

RATE, MOMENTUM = 0.01, 0.9


class Steps:
    """A network with its optimizer, in eager mode.

    Args:
        model: of torchvision.
        compute_loss: `(model, standardised images [n, 3, h, w], the batch's arrays) -> loss`.
        data: fields of all examples, with `mean` and `std` of the images.
        batches: indices of each batch.
    """

    def __init__(
        self,
        model: torch.nn.Module,
        compute_loss: Callable[..., torch.Tensor],
        data: Mapping[str, np.ndarray],
        batches: Iterator[np.ndarray],
    ):
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.model, self._compute_loss, self._batches = model.to(self.device).train(), compute_loss, batches
        self._data = {name: torch.from_numpy(np.array(x)).to(self.device) for name, x in data.items()}
        self._optimizer = torch.optim.SGD(model.parameters(), lr=RATE, momentum=MOMENTUM)

    @property
    def parameters(self) -> int:
        """The number of its parameters."""
        return sum(p.numel() for p in self.model.parameters())

    def run(self, steps: int) -> None:
        """Makes some steps and waits for the last."""
        for _ in range(steps):
            index = torch.from_numpy(next(self._batches).astype(np.int64)).to(self.device)
            fields = {name: x[index] for name, x in self._data.items() if name not in ("mean", "std")}
            image = (fields["image"].float() / 255 - self._data["mean"]) / self._data["std"]
            loss = self._compute_loss(self.model, image.permute(0, 3, 1, 2), fields)
            self._optimizer.zero_grad(set_to_none=True)
            loss.backward()
            self._optimizer.step()
            loss = float(loss.detach())


def deeplab_v3(classes: int) -> tuple[torch.nn.Module, Callable[..., torch.Tensor]]:
    """Returns torchvision's DeepLabV3 on ResNet-50, and the cross-entropy of pixels that are not void."""
    build = torchvision.models.segmentation.deeplabv3_resnet50
    model = build(weights=None, weights_backbone=None, num_classes=classes)

    def compute_loss(model: torch.nn.Module, image: torch.Tensor, fields: Mapping[str, Any]) -> torch.Tensor:
        return F.cross_entropy(model(image)["out"], fields["label_map"].long(), ignore_index=-1)

    return model, compute_loss


def fcos(classes: int) -> tuple[torch.nn.Module, Callable[..., torch.Tensor]]:
    """Returns torchvision's FCOS on ResNet-50 without its own resizing of images, and its losses."""
    from torchvision.models.detection import fcos_resnet50_fpn
    from torchvision.models.detection.image_list import ImageList

    model = fcos_resnet50_fpn(weights=None, weights_backbone=None, num_classes=classes)

    def compute_loss(model: torch.nn.Module, image: torch.Tensor, fields: Mapping[str, Any]) -> torch.Tensor:
        height, width = image.shape[2:]
        maps = [*model.backbone(image).values()]
        anchors = model.anchor_generator(ImageList(image, [(height, width)] * len(image)), maps)
        sides = torch.tensor([width, height, width, height], device=image.device)
        pairs = zip(fields["boxes"], fields["box_label"].long(), strict=True)
        targets = [
            {"boxes": boxes[label >= 0][:, [1, 0, 3, 2]] * sides, "labels": label[label >= 0]} for boxes, label in pairs
        ]
        places = [x.shape[2] * x.shape[3] for x in maps]
        return sum(model.compute_loss(targets, model.head(maps), anchors, places).values())

    return model, compute_loss


PEERS = {"deeplab_v3": deeplab_v3, "fcos": fcos}
