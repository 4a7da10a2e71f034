"""Precisions as pycocotools computes them."""

import contextlib
import io

import numpy as np

from jaxdistill.metrics.coco import Image


def precisions(images: list[Image], classes: int) -> np.ndarray:
    """Returns the precisions `[classes, a, t, recalls]`, -1 for a class without boxes."""
    from pycocotools import coco, cocoeval

    truth = [
        {"image_id": place, "category_id": int(label), "bbox": box.tolist(), "area": box[2] * box[3], "iscrowd": crowd}
        for place, one in enumerate(images)
        for box, label, crowd in zip(one.truth, one.label, one.crowd.astype(int).tolist(), strict=True)
    ]
    detections = [
        {"image_id": place, "category_id": int(label), "bbox": box.tolist(), "score": float(score)}
        for place, one in enumerate(images)
        for box, label, score in zip(one.boxes, one.classes, one.scores, strict=True)
    ]
    with contextlib.redirect_stdout(io.StringIO()):
        dataset = coco.COCO()
        dataset.dataset = {
            "images": [{"id": place} for place in range(len(images))],
            "categories": [{"id": label} for label in range(classes)],
            "annotations": [{"id": number + 1} | row for number, row in enumerate(truth)],
        }
        dataset.createIndex()
        evaluation = cocoeval.COCOeval(dataset, dataset.loadRes(detections), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
    return evaluation.eval["precision"][..., -1].transpose(2, 3, 0, 1)
