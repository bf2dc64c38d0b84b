"""Features in files that other programs wrote: a Parquet table, an HDF5 file, or a folder of `.npy`.

`base` says what a source can be asked; `tables` has the files of rows, `folder` the folders; `gather` reads the rows of
segments. Nothing here is written.
"""
