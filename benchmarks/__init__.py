"""The order workload: Tieline against the raw limit and a bare loop, in one run."""
