"""What each finding of eval/diagnose.py means and what to try, in words. Reads and writes nothing."""

WORDS = {
    "loss_floor": (
        "With this activation and temperature even perfect embeddings leave the loss near chance: a loss that hardly "
        "falls says nothing here, and gradients are weak.",
        "`output: linear`, a lower `temperature` (0.07), and judging by ranks.",
    ),
    "loss_not_falling": (
        "Neither training nor validation loss left the chance level: nothing was learnt.",
        "another learning rate; the features (are the weights random?); whether sound and picture belong together.",
    ),
    "chance_ranks": (
        "On test videos the true partner ranks no better than by guessing.",
        "what else is found here: it usually says why. If nothing is, these features may share nothing.",
    ),
    "memorised_pairs": (
        "Training pairs were learnt by heart: neither the heads nor a linear map of the features find test pairs. "
        "Sound and picture are unrelated in the cache (as when it is shuffled), or there are too few videos.",
        "looking at some pairs by ear and eye; more videos, more dropout, narrower heads.",
    ),
    "shuffled_pairs": (
        "A linear map fitted on the cached pairs finds test partners, the trained heads do not, though they did not "
        "collapse: training saw other pairs than the cache has, or could not learn at all.",
        "how batches pair sound and picture (same video and segment on both sides?); then the learning rate.",
    ),
    "constant_output": (
        "One side gives all items the same embedding: all candidates tie.",
        "a lower learning rate, `output: linear`; a dead layer or constant features.",
    ),
    "collapse": (
        "The embeddings use next to none of their space: all items look alike.",
        "a lower temperature, larger batches, `output: linear`.",
    ),
    "modality_gap": (
        "Sounds and pictures lie farther apart than sounds from each other: cosines across sides say little in "
        "absolute terms, and means over both sides mix two worlds.",
        "a learned temperature; taking each side's mean off before comparing.",
    ),
    "train_mode_batch_norm": (
        "The stored embeddings are not what the heads give a segment alone, but nearer to what batch norm gives in "
        "training mode: they depend on what else was in the batch.",
        "`model.eval()` before embedding; then embed again.",
    ),
    "neighbours_without_labels": (
        "Nearest neighbours share a genre no more often than random videos do.",
        "whether the labels are right, and the same measure on the backbones' features.",
    ),
    "downstream_below_features": (
        "A probe on the embeddings does worse than on the backbone's features: projecting lost what the task needs.",
        "using the features themselves, wider embeddings, or the layer before the last.",
    ),
}
"""Finding: (what it means, what to try)."""
