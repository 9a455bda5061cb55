"""Datasets in a bucket: `bucket` talks to the server, `writing` writes a dataset there.

`cache` keeps what is read: `ranges` fetches some images of a part, or all of it, into files in the cache, and
`prefetch` does so ahead of an epoch.

A dataset in a bucket has an object for each file that a dataset folder has, under the same name. So any tool that
copies files to a bucket and back copies datasets. Nothing can be renamed there, and needn't be: parts have unique
names, and the manifest is put last, on the condition that no other writer has put one meanwhile.
"""
