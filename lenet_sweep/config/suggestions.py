"""What a mistyped key or value was probably meant to be: by meaning, by case, then by spelling."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping

CLOSE = 0.8  # of difflib's ratio: 'batchs' is close to 'batch', 'scheduler' to nothing

# Other names of keys, without case and separators. None: nothing here is like it, however close
# the spelling may be.
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
    **dict.fromkeys(("numworkers", "nworkers", "njobs", "jobs", "processes"), "workers"),
    **dict.fromkeys(("outputdir", "outdir", "output", "outputs", "savedir", "logdir"), "out"),
    **dict.fromkeys(("user", "username", "author", "runby"), "person"),
    **dict.fromkeys(("runname", "expname", "experiment", "experimentname", "sweepname"), "name"),
    **dict.fromkeys(("gpu", "accelerator", "cuda"), "device"),
    **dict.fromkeys(("backend", "framework"), "engine"),
    **dict.fromkeys(("data", "dataname", "datasetname"), "dataset"),
    **dict.fromkeys(("dataroot", "datadir", "root", "datapath"), "dataset.root"),
    **dict.fromkeys(("limit", "subset", "trainsize", "numsamples"), "dataset.limit"),
    **dict.fromkeys(("validation", "validationsplit", "valsize", "valsplit"), "holdout"),
    **dict.fromkeys(("plots", "plot"), "figures"),
    **dict.fromkeys(("maxretries", "retry"), "retries"),
    "dry": "dry_run",
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
    "dropout": None,
    "scheduler": None,
    "lrscheduler": None,
}

# Other names of values, by key.
VALUES: Mapping[str, Mapping[str, str | None]] = {
    "device": {
        "gpu": "cuda", "nvidia": "cuda", "cuda0": "cuda", "metal": "mps", "apple": "mps",
    },
    "engine": {"pytorch": "torch", "c++": "native", "cpp": "native"},
    "optimizer": {
        "adamw": "adam optimizer.decoupled_weight_decay=true",
        "momentum": "sgd optimizer.momentum=0.9",
        "nesterov": "sgd optimizer.momentum=0.9 optimizer.nesterov=true",
        "amsgrad": "adam optimizer.amsgrad=true",
        "nadam": None, "radam": None, "adamax": None, "adagrad": None, "sparseadam": None,
    },
    "loss": {
        "crossentropyloss": "cross_entropy", "ce": "cross_entropy", "xent": "cross_entropy",
        "nllloss": "nll", "negativeloglikelihood": "nll",
    },
    "activation": {
        "swish": "silu", "lrelu": "leaky_relu", "logistic": "sigmoid", "prelu": None, "selu": None,
        "celu": None, "relu6": None,
    },
    "dataset": {
        "fashion": "fashion_mnist", "fmnist": "fashion_mnist", "kuzushijimnist": "kmnist",
        "emnist": None, "qmnist": None, "custom": "folder", "own": "folder",
    },
}  # fmt: skip


def for_key(typed: str, known: Iterable[str]) -> str:
    """The key that was probably meant, '' for none."""
    known = list(known)
    if (name := _bare(typed)) in KEYS and typed not in known:
        return KEYS[name] or ""
    return _nearest(typed, known)


def for_value(key: str, typed: str, allowed: Iterable[str]) -> str:
    """The value of a key that was probably meant, with further settings if needed; '' for none."""
    names = VALUES.get(key, {})
    if (name := _bare(typed)) in names:
        return names[name] or ""
    return _nearest(typed, list(allowed))


def _nearest(typed: str, allowed: list[str]) -> str:
    same = [name for name in allowed if _bare(name) == _bare(typed)]
    longer = [name for name in allowed if len(typed) > 3 and name.startswith(typed)]
    return next(iter([*same, *difflib.get_close_matches(typed, allowed, 1, CLOSE), *longer]), "")


def _bare(text: str) -> str:
    return re.sub(r"[-_ :]", "", text).lower()
