"""Files that are fetched over the network for the time of their decoding: `https://` and `s3://` (`decoding.remote`).

`fetching.fetched` brings one file here; `check.check_access` asks, before a job begins, whether it may have the files
at all. Both read what their servers send and the environment variables that the configuration names. A file is written
without a name into `decoding.staging`, or the system's folder for temporary files, so that nothing is left of it
whatever happens to the process.
"""
