"""The sections of docs/modes.md: title, what the measured numbers say, and the rows with what each is."""

SECTIONS = [
    (
        "One teacher",
        (
            "A teacher is worth four to five points over the labels alone. Without augmentation the same student "
            "reaches the teacher: 1,000 steps are too few for an MLP to learn rotated and shifted digits as well."
        ),
        {
            "teacher": "residual network, all labels",
            "alone": "the student, a hundred labels, no teacher",
            "kd": "the student taught by `teacher`",
            "clean": "the same without augmentation",
        },
    ),
    (
        "Several teachers",
        (
            "The three together are a little better than each; their student is not better than that of one "
            "teacher, and confidence in the label changes nothing where nearly all labels are hidden."
        ),
        {
            "second": "a wide MLP, all labels",
            "third": "the residual network on images of 16 x 16 pixels, all labels",
            "mean": "the three averaged",
            "ensemble": "taught by their mean",
            "ensemble_confidence": "taught by their mean, weighed by confidence in the label",
            "several": "taught by each, a term of a third each",
        },
    ),
    (
        "Peers, without a teacher",
        (
            "Peers gain about one point at most over learning alone, which is within the spread: two networks "
            "that have seen the same hundred labels have little to tell each other."
        ),
        {
            "alone": "the control",
            "mutual": "two different networks teach each other",
            "mutual_peer": "the other of the two",
            "codistillation": "by each other's copies of up to 50 steps ago",
            "peer_ensemble": "by the mean of both",
        },
    ),
    (
        "The student's own past, and its own depth",
        ("None of these is distinguishable from its control here; the exit, at this size, costs a point."),
        {
            "alone": "the control",
            "ema": "taught by the average of its own weights",
            "ema_teacher": "that average",
            "born_again": "taught by `alone`",
            "born_again_twice": "taught by `born_again`",
            "deep_alone": "control with two hidden layers",
            "exits": "its last layer teaches an exit at its first",
        },
    ),
    (
        "Chains, and both at once",
        (
            "An assistant in between neither helps nor harms. A teacher that learns while it teaches does nearly "
            "as well as a finished one in 400 steps, without a label for the student, and is itself not worse for "
            "it."
        ),
        {
            "assistant": "a wide MLP taught by `teacher`, a hundred labels",
            "assistants": "the student taught by `assistant`",
            "together": "taught while the teacher learns, without labels of its own, in 400 steps",
            "together_teacher": "that teacher, drawn to its student",
        },
    ),
    (
        "A small teacher for a larger student",
        (
            "The larger student goes beyond its teacher by one point, and by three with the confidence term, "
            "which reaches what its own hundred labels give it."
        ),
        {
            "alone": "the small teacher, a hundred labels",
            "large_alone": "the residual network on a hundred labels",
            "reverse": "the residual network taught by `alone`, no labels",
            "weak_to_strong": "by cross-entropy with the confidence term in place of KD at T = 4",
        },
    ),
    (
        "Partitions: four teachers of a quarter of the data each, at random, each from a seed of its own",
        (
            "Averages of networks from different seeds are useless (0.59) until their units are matched (0.91); "
            "the ensemble is as good as one network on all the data. The four start from the seeds 0 to 3 in "
            "every run, so the first rows have no spread."
        ),
        {
            "expert": "the wide MLP on all the data",
            "expert_student": "the student taught by it",
            "own_ensemble": "the four as an ensemble",
            "own_ensemble_student": "the student taught by it",
            "own_average": "the average of their weights",
            "own_average_student": "the student taught by it",
            "own_aligned": "the average after weight matching",
            "own_aligned_student": "the student taught by it",
        },
    ),
]


def merged(cut: str) -> dict[str, str]:
    rules = {
        "ensemble": "the four as an ensemble",
        "average": "average of weights",
        "soup": "greedy soup",
        "fisher": "weighted by Fisher information",
        "slerp": "spherical average",
        "task_arithmetic": "task arithmetic about `start`",
        "ties": "TIES about `start`",
        "dare": "DARE about `start`",
    }
    rows = {"start": "what the four start from: a hundred labels"}
    for rule, what in rules.items():
        rows[f"{cut}_{rule}"] = what
        rows[f"{cut}_{rule}_student"] = "taught by it"
    return rows


SECTIONS += [
    (
        "Partitions at random, from a common start, under each merge",
        (
            "From a common start every average is as good as the ensemble of four, at a quarter of its size, and "
            "as the network that has seen all the data (0.957). TIES and DARE, made for large networks and small "
            "changes, lose some of it at the settings used here."
        ),
        merged("iid"),
    ),
    (
        "Partitions by class, from a common start, under each merge",
        (
            "Where each has seen two or three classes only, the ensemble fails (0.71), since each is sure of its "
            "own classes; the average of weights holds what they started from (0.89) and no merge adds to it."
        ),
        merged("class"),
    ),
    (
        "Teachers that are not networks",
        (
            "Students of a support vector machine and of a forest come within a point or so of a network's, and "
            "an ensemble of three kinds that saw a third of the data each teaches nearly as well."
        ),
        {
            "clean": "control: taught by `teacher`, without augmentation",
            "svm": "a support vector machine, all labels",
            "svm_student": "taught by it",
            "forest": "a random forest, all labels",
            "forest_student": "taught by it",
            "third_svm": "a support vector machine on a third of the data",
            "third_forest": "a random forest on another third",
            "third_network": "the student's network on the last third",
            "mixed": "these three as an ensemble",
            "mixed_student": "taught by it",
        },
    ),
    (
        "Cached teachers",
        (
            "A cache of the clean image gives the live student's numbers; eight views that come again are within "
            "the spread of a new view in every epoch."
        ),
        {
            "kd": "the teacher live, a new view in every epoch",
            "clean": "the teacher live, no augmentation",
            "cached1": "cached once, no augmentation",
            "cached8": "cached in eight views, which come again",
        },
    ),
    (
        "Other data, and no labels",
        (
            "No label at all is better than a hundred with full weight (0.947 against 0.936). A residual teacher "
            "says little about noise, shuffled pixels or three classes that carries over to digits; MNIST's "
            "images, which keep a margin that the scans have not, carry about half of it (0.58)."
        ),
        {
            "label_free": "taught on the same images, no labels",
            "three_classes": "on images of three of the ten classes",
            "shuffled": "on images with their pixels shuffled",
            "noise": "on uniform noise",
            "mnist": "on MNIST's images at 8 x 8 pixels",
        },
    ),
    (
        "Across datasets, the other way: MNIST's test split",
        (
            "Seen without a label, a fifth as many images of another scanner teach half of what MNIST's own do: "
            "they are fewer, fill the frame, and are all that the student has seen."
        ),
        {
            "cross_teacher": "an MLP on 5,000 labelled images of MNIST at 14 x 14 pixels",
            "cross_same": "a student taught on these images, no labels",
            "cross_other": "a student taught on the digits of scikit-learn",
        },
    ),
]
