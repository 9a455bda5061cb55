"""Work that is shared among processes of this machine, or the machines of a Dask cluster.

`workers` has a function called for each task, and `local_workers` is the process that holds those of this machine.
`conversion` and `checking` are the work.
"""
