"""PyTorch uses a reader as a dataset without an adapter, in forked and in spawned workers."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from storage import BACKENDS, Backend, InvalidInputError
from tests.support.image_sets import make_set

torch: Any = pytest.importorskip("torch", reason="PyTorch isn't installed; the suite doesn't depend on it")

IMAGES, LABELS = make_set(40, 8, 6)[0], np.arange(40)  # a label is the place of its image


def check_epochs(module: Backend, store: Path, **options: Any) -> None:  # noqa: ANN401 - the loader's
    """Load two shuffled epochs; check that each image comes once, with its label, and each epoch in another order."""
    module.store_many(store, IMAGES, LABELS)
    with module.open_reader(store) as reader:
        reader.read([5])  # opened and used before there are workers
        shuffling = torch.Generator().manual_seed(7)
        loader = torch.utils.data.DataLoader(reader, batch_size=7, shuffle=True, generator=shuffling, **options)
        orders = []
        for _ in range(2):
            batches = [(images.numpy(), labels.numpy()) for images, labels in loader]
            orders.append(np.concatenate([labels for _, labels in batches]).tolist())
            np.testing.assert_array_equal(np.concatenate([images for images, _ in batches]), IMAGES[orders[-1]])
        np.testing.assert_array_equal(reader.read(range(40))[0], IMAGES)
    assert [sorted(order) for order in orders] == [LABELS.tolist()] * 2
    assert orders[0] != orders[1]
    assert LABELS.tolist() not in orders


@pytest.mark.parametrize("options", [{}, {"num_workers": 2, "multiprocessing_context": "fork"}], ids=["none", "forked"])
def test_a_loader_reads_every_image_once(module: Backend, options: dict[str, Any], tmp_path: Path) -> None:
    check_epochs(module, tmp_path, **options)


@pytest.mark.parametrize("name", ["hdf5", "lmdb_packed"])  # a worker that is spawned imports PyTorch: seconds each
def test_spawned_workers_read_every_image_once(name: str, tmp_path: Path) -> None:
    check_epochs(BACKENDS[name], tmp_path, num_workers=2, multiprocessing_context="spawn", persistent_workers=True)


@pytest.mark.parametrize("name", ["npy", "hdf5", "lmdb"])
def test_a_sampler_of_batches_reads_each_batch_at_once(name: str, tmp_path: Path) -> None:
    BACKENDS[name].store_many(tmp_path / "store", torch.from_numpy(IMAGES), torch.from_numpy(LABELS).to(torch.int32))
    with BACKENDS[name].open_reader(tmp_path / "store") as reader:
        sampler = torch.utils.data.BatchSampler(torch.utils.data.SequentialSampler(reader), 7, drop_last=False)
        batches = list(torch.utils.data.DataLoader(reader, sampler=sampler, batch_size=None))
    assert [len(images) for images, _ in batches] == [7] * 5 + [5]
    np.testing.assert_array_equal(torch.cat([images for images, _ in batches]), IMAGES)
    np.testing.assert_array_equal(torch.cat([labels for _, labels in batches]), LABELS)


def test_tensors_select_and_are_filled(tmp_path: Path) -> None:
    BACKENDS["npy"].store_many(tmp_path / "store", list(torch.from_numpy(IMAGES)), list(torch.from_numpy(LABELS)))
    out = torch.zeros((2, 8, 6, 3), dtype=torch.uint8)
    with BACKENDS["npy"].open_reader(tmp_path / "store") as reader:
        images, labels = reader.read(torch.tensor([7, 2]), out)
        assert images is out
        np.testing.assert_array_equal(out, IMAGES[[7, 2]])
        np.testing.assert_array_equal(labels, LABELS[[7, 2]])
        assert reader[torch.tensor(3)][1] == 3
        assert reader[torch.tensor([3])][0].shape == (1, 8, 6, 3)
        with pytest.raises(InvalidInputError, match="out is not C-contiguous"):
            reader.read([0, 1], torch.zeros((1, 8, 6, 3), dtype=torch.uint8).expand(2, -1, -1, -1))


def test_tensors_that_are_no_images_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="can't be made an array"):
        BACKENDS["npy"].store_many(tmp_path / "store", torch.zeros((1, 8, 6, 3), requires_grad=True), [0])
    with pytest.raises(InvalidInputError, match=r"seem to be \(N, C, H, W\)"):
        BACKENDS["npy"].store_many(tmp_path / "store", torch.zeros((1, 3, 8, 9), dtype=torch.uint8), [0])
    assert not (tmp_path / "store").exists()
