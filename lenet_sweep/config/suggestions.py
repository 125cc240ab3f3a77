"""Suggestions for mistyped keys and values: by case, then by meaning, then by spelling."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping

MIN_SIMILARITY = 0.8  # of difflib: 'batchs' is close to 'batch', and 'scheduler' to no key

# Names that other libraries use for keys, in lower case and without separators. None: there is no
# such key, and a key with a similar spelling is not suggested.
KEYS: Mapping[str, str | None] = {
    **dict.fromkeys(("learningrate", "stepsize", "eta", "learnrate"), "lr"),
    **dict.fromkeys(("batchsize", "bs", "minibatch", "minibatchsize", "batches"), "batch"),
    **dict.fromkeys(
        ("nepochs", "numepochs", "maxepochs", "epoch", "numtrainepochs", "iterations"), "epochs"
    ),
    **dict.fromkeys(("criterion", "lossfn", "lossfunction", "costfunction", "cost"), "loss"),
    **dict.fromkeys(("optim", "opt", "solver"), "optimizer"),
    **dict.fromkeys(("act", "nonlinearity", "activationfunction"), "activation"),
    **dict.fromkeys(("randomseed", "randomstate", "manualseed", "rngseed"), "seed"),
    **dict.fromkeys(("numthreads", "nthreads", "cores", "cpus"), "threads"),
    **dict.fromkeys(("numworkers", "nworkers", "njobs", "jobs", "processes"), "workers"),
    **dict.fromkeys(("outputdir", "outdir", "output", "outputs", "savedir", "logdir"), "out"),
    **dict.fromkeys(("user", "username", "author", "runby"), "person"),
    **dict.fromkeys(("runname", "expname", "experiment", "experimentname", "sweepname"), "name"),
    **dict.fromkeys(("gpu", "accelerator", "cuda"), "device"),
    **dict.fromkeys(("backend", "framework"), "engine"),
    **dict.fromkeys(("data", "dataname", "datasetname"), "dataset"),
    **dict.fromkeys(("dataroot", "datadir", "root", "datapath"), "dataset.root"),
    **dict.fromkeys(("limit", "subset", "trainsize", "numsamples"), "dataset.limit"),
    **dict.fromkeys(("imagesize", "imgsize", "imgsz", "resolution", "resize"), "dataset.size"),
    **dict.fromkeys(("validation", "validationsplit", "valsize", "valsplit"), "holdout"),
    **dict.fromkeys(("plots", "plot"), "figures"),
    **dict.fromkeys(("maxretries", "retry"), "retries"),
    **dict.fromkeys(("pairs", "paired", "zip", "zipped", "together"), "pair"),
    **dict.fromkeys(("dashboard", "browser", "live", "web", "server"), "serve"),
    "dry": "dry_run",
    "labelsmoothing": "loss.label_smoothing",
    "smoothing": "loss.label_smoothing",
    "margin": "loss.margin",
    "momentum": "optimizer.momentum",
    "dampening": "optimizer.dampening",
    "nesterov": "optimizer.nesterov",
    "weightdecay": "optimizer.weight_decay",
    "wd": "optimizer.weight_decay",
    "l2": "optimizer.weight_decay",
    "betas": "optimizer.betas",
    "beta1": "optimizer.betas",
    "beta2": "optimizer.betas",
    "eps": "optimizer.eps",
    "epsilon": "optimizer.eps",
    "amsgrad": "optimizer.amsgrad",
    **dict.fromkeys(("scheduler", "lrscheduler", "lrschedule"), "schedule"),
    **dict.fromkeys(("warmupepochs", "warmup"), "schedule.warmup"),
    **dict.fromkeys(("augmentation", "augmentations", "dataaugmentation", "transform"), "augment"),
    **dict.fromkeys(("degrees", "rotation", "rotationrange"), "augment.degrees"),
    **dict.fromkeys(("translate", "translation"), "augment.translate"),
    **dict.fromkeys(("dropoutrate", "droprate", "pdrop"), "dropout"),
    **dict.fromkeys(("bn", "batchnormalization"), "batch_norm"),
    **dict.fromkeys(("initialization", "initializer", "weightinit"), "init"),
    **dict.fromkeys(("pooling", "pooltype"), "pool"),
    **dict.fromkeys(("widthmultiplier", "widthfactor", "channels", "hidden"), "width"),
    **dict.fromkeys(("normalization", "standardize"), "normalize"),
    **dict.fromkeys(("clip", "gradclip", "maxnorm", "clipgradnorm", "gradientclip"), "clip_norm"),
    **dict.fromkeys(("earlystopping", "earlystop", "earlystoppingpatience"), "patience"),
    **dict.fromkeys(("network", "arch", "architecture", "net"), "model"),
}

# Names that other libraries use for values, by key; None as in KEYS.
VALUES: Mapping[str, Mapping[str, str | None]] = {
    "device": {
        "gpu": "cuda", "nvidia": "cuda", "cuda0": "cuda", "metal": "mps", "apple": "mps",
    },
    "engine": {"pytorch": "torch", "c++": "native", "cpp": "native"},
    "optimizer": {
        "momentum": "sgd optimizer.momentum=0.9",
        "nesterov": "sgd optimizer.momentum=0.9 optimizer.nesterov=true",
        "amsgrad": "adam optimizer.amsgrad=true",
        "sparseadam": None,
    },
    "loss": {
        "crossentropyloss": "cross_entropy", "ce": "cross_entropy", "xent": "cross_entropy",
        "nllloss": "nll", "negativeloglikelihood": "nll",
        "labelsmoothing": "cross_entropy loss.label_smoothing=0.1",
        "multimarginloss": "multi_margin", "hinge": "multi_margin", "hingeloss": "multi_margin",
        "mseloss": "mse", "meansquarederror": "mse", "l2": "mse",
        "huberloss": "huber", "smoothl1": "huber", "smoothl1loss": "huber",
        "bce": "binary_cross_entropy", "bceloss": "binary_cross_entropy",
        "bcewithlogits": "binary_cross_entropy", "bcewithlogitsloss": "binary_cross_entropy",
        "l1": None, "l1loss": None, "mae": None, "focal": None, "kldiv": None, "softmargin": None,
    },
    "activation": {
        "swish": "silu", "lrelu": "leaky_relu", "logistic": "sigmoid", "prelu": None, "selu": None,
        "celu": None, "relu6": None,
    },
    "pool": {
        "maxpool": "max", "maxpooling": "max", "avgpool": "avg", "average": "avg", "mean": "avg",
    },
    "init": {
        "default": "torch", "pytorch": "torch", "xavier": "xavier_uniform",
        "glorot": "xavier_uniform", "glorotuniform": "xavier_uniform",
        "glorotnormal": "xavier_normal", "kaiming": "kaiming_uniform", "he": "kaiming_uniform",
        "heuniform": "kaiming_uniform", "henormal": "kaiming_normal",
    },
    "augment": {
        "null": "none", "false": "none", "translate": "shift", "translation": "shift",
        "crop": "shift", "randomcrop": "shift", "rotate": "affine", "rotation": "affine",
        "randomrotation": "affine", "randomaffine": "affine", "shear": "affine", "zoom": "affine",
        "scale": "affine", "elastictransform": "elastic", "distortion": "elastic",
        "cutout": "erase", "erasing": "erase", "randomerasing": "erase", "coarsedropout": "erase",
        "flip": None, "mixup": None, "cutmix": None, "randaugment": None, "autoaugment": None,
    },
    "schedule": {
        "none": "constant", "steplr": "step", "multisteplr": "multistep",
        "exponentiallr": "exponential", "cosineannealing": "cosine",
        "cosineannealinglr": "cosine", "onecycle": "one_cycle", "onecyclelr": "one_cycle",
        "sgdr": "cosine_restarts", "linearwarmup": "constant schedule.warmup=1",
        "reduceonplateau": None, "reducelronplateau": None,
    },
    "model": {"lenet": "lenet5", "lenet-5": "lenet5"},
    "normalize": {"false": "none", "true": "standard", "zscore": "standard"},
    "dataset": {
        "fashion": "fashion_mnist", "fmnist": "fashion_mnist", "kuzushijimnist": "kmnist",
        "emnist": None, "qmnist": None, "idx": "folder", "images": "image_folder",
        "custom": "image_folder", "own": "image_folder", "imagenet": "image_folder",
    },
}  # fmt: skip


def for_key(typed: str, valid_keys: Iterable[str]) -> str:
    """The key that was probably meant; "" if there is no good suggestion."""
    return _suggest(typed, list(valid_keys), KEYS)


def for_value(key: str, typed: str, allowed: Iterable[str]) -> str:
    """The value of a key that was probably meant; "" if there is no good suggestion.

    The value may be followed by other settings, as in 'adam optimizer.amsgrad=true'.
    """
    return _suggest(typed, list(allowed), VALUES.get(key, {}))


def _suggest(typed: str, allowed: list[str], names: Mapping[str, str | None]) -> str:
    normalized = _normalize(typed)
    # First, because a file of the user may add a choice that `names` says does not exist.
    for name in allowed:
        if _normalize(name) == normalized:
            return name
    if normalized in names:
        return names[normalized] or ""
    similar = difflib.get_close_matches(typed, allowed, 1, MIN_SIMILARITY)
    longer = [name for name in allowed if len(typed) > 3 and name.startswith(typed)]
    return next(iter([*similar, *longer]), "")


def _normalize(text: str) -> str:
    return re.sub(r"[-_ :]", "", text).lower()
