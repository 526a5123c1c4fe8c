"""Status of campaigns: progress, workers, throughput, failures and findings."""
