"""Four ways to bear a crash, on one workload: acknowledgements, micro-batches, transactions, snapshots."""
