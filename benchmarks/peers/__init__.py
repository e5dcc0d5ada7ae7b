"""The order workload through what a user would pick instead of Tieline, in one run with Tieline."""
