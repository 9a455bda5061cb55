"""Where a dataset is: a path, or the URL of a prefix in a bucket."""

import os
import pickle
from pathlib import Path

import pytest

from storage import InvalidInputError, StorageError
from storage.urls import Url, find_location


def find_url(text: str) -> Url:
    found = find_location(text)
    assert isinstance(found, Url), f"{text} is a {type(found).__name__}"
    return found


@pytest.mark.parametrize("text", ["photos", "a/b", "/a/b", "C:/photos", "a:b", "x:/y", "."])
def test_anything_else_than_a_url_is_a_path(text: str) -> None:
    assert find_location(text) == Path(text)
    assert find_location(Path(text)) == Path(text)


@pytest.mark.parametrize("scheme", ["s3", "gs", "az"])
def test_a_url_keeps_its_slashes_and_names_a_bucket_and_a_prefix(scheme: str) -> None:
    url = find_url(f"{scheme}://bucket/a/b")
    assert str(url) == f"{scheme}://bucket/a/b"
    assert (url.scheme, url.bucket, url.prefix, url.name) == (scheme, "bucket", "a/b", "b")
    assert repr(url) == f"Url('{scheme}://bucket/a/b')"
    assert find_location(url) is url


def test_a_url_of_a_whole_bucket_has_no_prefix() -> None:
    for text in ("s3://bucket", "s3://bucket/", "S3://bucket"):
        url = find_url(text)
        assert (str(url), url.prefix) == ("s3://bucket", "")


def test_urls_are_joined_taken_apart_compared_and_pickled() -> None:
    url = find_url("s3://bucket/photos")
    part = url / "part-1" / "index.npy"
    assert str(part) == "s3://bucket/photos/part-1/index.npy"
    assert str(part.relative_to(url)) == "part-1/index.npy"
    assert str(url / part.relative_to(url)) == str(part)
    assert part.is_relative_to(url)
    assert str(part.parent.parent) == str(url)
    assert str(url.with_name("other")) == "s3://bucket/other"
    assert pickle.loads(pickle.dumps(part)) == part  # noqa: S301 - our own
    assert len({part, find_url(str(part))}) == 1
    assert str(Url()) == ""


def test_a_url_cannot_be_taken_for_a_file() -> None:
    with pytest.raises(TypeError, match="is a URL, not a path"):
        os.listdir(find_url("s3://bucket/photos"))  # noqa: PTH208 - not of a Path


@pytest.mark.parametrize(
    "text",
    [
        "s3://key:SECRET@bucket/photos",
        "s3://bucket/photos?token=SECRET",
        "s3://bucket/photos#SECRET",
        "https://key:SECRET@host/photos",
        "ftp://SECRET/photos",
        "s3://bucket/SECRET//photos",
        "s3://bucket/SECRET/../photos",
        "s3://bucket/./SECRET",
        "s3:///SECRET",
        "s3://no/SECRET",  # no bucket has a name of two letters
        "s3://:SECRET/",
        "s3://bucket/SECRET\n",
        "s3://bucket/SECRET\\photos",
        "file://host/SECRET",
        "file:///SECRET?token",
    ],
)
def test_other_urls_are_refused_without_repeating_what_could_be_a_secret(text: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        find_location(text)
    assert "SECRET" not in str(caught.value)
    assert caught.value.hint


@pytest.mark.parametrize("given", [Path("s3://bucket/photos"), "gs:/bucket/photos", Path("file:///photos")])
def test_a_path_that_was_a_url_is_refused_with_a_hint(given: Path | str) -> None:
    with pytest.raises(InvalidInputError, match="give the URL as a string"):
        find_location(given)


@pytest.mark.parametrize("text", ["file:///a/b%20c", "file://localhost/a/b%20c"])
def test_the_url_of_a_file_is_a_path(text: str) -> None:
    assert find_location(text) == Path("/a/b c")


def test_an_error_names_a_url_as_it_was_given() -> None:
    url = find_url("s3://bucket/photos")
    assert str(StorageError("it is gone", store=url)) == "s3://bucket/photos: it is gone"
