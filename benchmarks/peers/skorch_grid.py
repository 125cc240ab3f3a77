"""skorch with GridSearchCV of scikit-learn: one single-threaded process per core.

The test images are the only validation fold. The score is the validation accuracy of the last epoch
in the history of the network, so that nothing is evaluated twice.
"""

from __future__ import annotations

import numpy as np
import torch
from sklearn.model_selection import GridSearchCV, PredefinedSplit
from skorch import NeuralNetClassifier
from skorch.dataset import Dataset
from skorch.helper import predefined_split
from torch import Tensor, nn

from benchmarks.peers.common import Task, cores, parse_task, write_accuracies
from benchmarks.peers.network import LeNet5
from benchmarks.peers.resident_loop import tensors

OPTIMIZERS = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam}


class LogNLL(nn.Module):
    """NLL of log-softmax. With nn.NLLLoss, skorch would apply the logarithm itself."""

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        return nn.functional.nll_loss(torch.log_softmax(logits, 1), labels)


LOSSES = {"cross_entropy": nn.CrossEntropyLoss, "nll": LogNLL}


class Net(NeuralNetClassifier):
    """A classifier with given initial weights."""

    def __init__(self, *arguments, weights=None, **more) -> None:
        self.weights = weights
        super().__init__(*arguments, **more)

    def initialize_module(self) -> Net:
        torch.set_num_threads(1)
        super().initialize_module()
        self.module_.load_state_dict(self.weights)
        return self


def last_accuracy(net: Net, *_: np.ndarray) -> float:
    return net.history[-1, "valid_acc"]


def sweep(task: Task) -> list[float]:
    data = tensors(task.data, task.limit)
    images = torch.cat([data.train_images, data.test_images]).numpy()
    labels = torch.cat([data.train_labels, data.test_labels]).numpy()
    fold = np.where(np.arange(len(labels)) < task.limit, -1, 0)
    with np.load(task.weights) as arrays:
        weights = {name: torch.from_numpy(array) for name, array in arrays.items()}
    test = Dataset(data.test_images.numpy(), data.test_labels.numpy())
    net = Net(
        LeNet5,
        weights=weights,
        iterator_train__shuffle=False,
        iterator_valid__batch_size=1000,
        train_split=predefined_split(test),
        verbose=0,
    )
    keys = [(s.loss, s.optimizer, s.lr, s.batch, s.epochs) for s in task.settings]
    grid = [
        {
            "criterion": [LOSSES[loss]],
            "optimizer": [OPTIMIZERS[optimizer]],
            "lr": [lr],
            "batch_size": [batch],
            "max_epochs": [epochs],
        }
        for loss, optimizer, lr, batch, epochs in keys
    ]
    search = GridSearchCV(
        net, grid, cv=PredefinedSplit(fold), scoring=last_accuracy, refit=False, n_jobs=cores(),
        error_score="raise",
    )  # fmt: skip
    search.fit(images, labels)
    return [100 * float(score) for score in search.cv_results_["mean_test_score"]]


if __name__ == "__main__":
    task = parse_task()
    write_accuracies(task, sweep(task))
