"""The ten classes of SynSL, SubVisDA-10 and SubImageNet.

All three have the same order of labels, so that a classifier pre-trained on one fits the others.
"""

from trainables.tasks.published._class_list import ClassList

SUBIMAGENET = {
    "airplane": ("n04552348",),
    "bicycle": ("n03792782", "n02835271"),
    "bus": ("n04487081", "n03769881", "n04146614"),
    "car": ("n03895866", "n04037443", "n04285008"),
    "knife": ("n03658185",),
    "motorbike": ("n03791053",),
    "plant": ("n07715103",),
    "skateboard": ("n04149813", "n03787032"),
    "train": ("n02917067",),
    "truck": ("n03345487", "n03417042", "n03930630", "n04461696", "n04467665"),
}
"""Classes of ImageNet that are merged into each of the ten."""

TEN_CLASSES = ClassList(
    names=tuple(SUBIMAGENET),
    # VisDA-2017's spelling, and ImageNet's folders in published mixtures.
    aliases={
        "aeroplane": "airplane",
        "motorcycle": "motorbike",
        **{folder: name for name, folders in SUBIMAGENET.items() for folder in folders},
    },
)
