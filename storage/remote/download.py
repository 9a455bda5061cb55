"""A dataset in a bucket as a local folder, into which its objects come when they are needed."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ..dataset.manifest import FILE, read_manifest
from ..dataset.opening import Dataset, Origin, find_module, reading_held
from ..errors import StoreNotFoundError, writing
from ..registry import PACKAGE
from ..urls import Url
from .bucket import Bucket


@dataclass(frozen=True)
class Download(Origin):
    """Brings files beside the parts once, and a part for as long as it is held."""

    bucket: Bucket
    folder: Path

    def bring(self, name: str) -> None:
        """Have a file beside the parts in the folder; if the bucket hasn't got it, the reader finds it missing."""
        path = self.folder / name
        if not path.exists() and (found := self.bucket.find(name)):
            with writing(path):
                path.write_bytes(found[0])

    @contextmanager
    def hold(self, number: int, dataset: Dataset) -> Iterator[None]:
        """Have the store of a part in the folder, and remove it afterwards."""
        part, sizes = dataset.manifest.parts[number].name, dataset.read_details(number).sizes
        try:
            with writing(self.folder):
                for parent in {(self.folder / part / name).parent for name in sizes}:
                    parent.mkdir(parents=True, exist_ok=True)
            names = [f"{part}/{name}" for name in sizes]
            self.bucket.download_all((name, self.folder / name, sizes[name[len(part) + 1 :]]) for name in names)
            yield
        finally:
            shutil.rmtree(self.folder / part, ignore_errors=True)


@contextmanager
def hold_remote(url: Url) -> Iterator[Dataset]:
    """Read the manifest of a dataset in a bucket."""
    with tempfile.TemporaryDirectory(prefix="dataset-") as name:
        folder, bucket = Path(name), Bucket(url)
        found = bucket.find(FILE)
        if found is None:
            hint = f"correct the URL, or save images there first with {PACKAGE}.save"
            raise StoreNotFoundError(f"it has no {FILE}", store=url, hint=hint)
        (folder / FILE).write_bytes(found[0])
        with reading_held(folder, url):
            manifest = read_manifest(folder)
            module = find_module(folder, manifest)
        yield Dataset(url, folder, manifest, module, origin=Download(bucket, folder))
